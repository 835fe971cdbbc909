"""The batch-norm statistics that a validation goes by."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from nasframe.core import Batch, BatchStream, Job, calibrated

_NUM_EXAMPLES: Final = 1280  # as many as the score of a supernet's paths takes


def own_statistics(
    job: Job, batch_size: int, laid_out: Callable[[Batch], Batch], *, skip_unreadable: bool
) -> AbstractContextManager[None]:
    """Inside, a model whose training draws has the statistics of what it is validated as, see `calibrated`.

    Args:
        job: Of the training, whose examples they are of; all ranks take the same.
        batch_size: Examples a batch of them, two at least.
        laid_out: Gives a batch the memory format that the network wants.
        skip_unreadable: See `BatchStream`.
    """
    if not job.model.draws:
        return nullcontext()
    batches = BatchStream(
        job.train,
        job.preprocess,
        batch_size=max(batch_size, 2),
        device=job.device,
        training=True,
        seed=job.seed,
        purpose=(job.stage, "calibration"),
        skip_unreadable=skip_unreadable,
    )
    count = math.ceil(_NUM_EXAMPLES / batches.batch_size)
    return calibrated(job.model, map(laid_out, islice(batches.epoch(0), count)))
