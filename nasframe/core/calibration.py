"""Batch-norm statistics of the network that is evaluated, where those of training are of many networks."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from nasframe.core.batch import Batch
from nasframe.core.compiled import uncompiled
from nasframe.core.model import Model, evaluating
from nasframe.core.swapped import unmoved
from nasframe.core.synchronized import unsynchronized


@contextmanager
def calibrated(model: Model, batches: Iterable[Batch]) -> Iterator[None]:
    """Inside, a model is in evaluation mode, and its batch norms have the mean statistics of some batches.

    These are of what it computes in evaluation mode, which is the path that it would run or the mean of what
    it mixes (Guo et al. 2020, arXiv 1904.00420, section 3.4). Nothing else moves, and the statistics are
    afterwards what they were. Batch norms that keep none go on without. Several ranks find the same, each
    by all of the batches.

    Args:
        model: On the device of the batches.
        batches: At least one, with more than one value a channel.
    """
    with evaluating(model), unmoved(model):
        with uncompiled(model), unsynchronized(model), torch.no_grad():
            _calibrate(model, batches)
        yield


def _calibrate(model: Model, batches: Iterable[Batch]) -> None:
    """Set the statistics; nothing but batch norms is in training mode meanwhile."""
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    for number, batch in enumerate(batches, 1):
        for norm in norms:
            norm.momentum = 1 / number  # makes the running statistics means
        model(batch.inputs)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()
