"""Training inputs as a network sees them, for eyes."""

import warnings
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import torch

from nasframe.core import Augmentation, BatchStream, Dataset, Split
from nasframe.errors import DataError, FaultWarning

_COUNT: Final = 16
_COLORS: Final = (1, 3)  # channels that a picture may have

Draw: TypeAlias = Callable[[], dict[str, torch.Tensor]]


def sample_inputs(
    stage: str, data: Dataset, train: Split, augment: Sequence[Augmentation], seed: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Some augmented images, B C H W from 0 to 1 as before normalization, by tag; none of other inputs."""
    shape = data.task.input_shape
    if len(shape) != 3 or shape[0] not in _COLORS:
        return {}
    stream = BatchStream(
        train,
        data.preprocess,
        batch_size=_COUNT,
        device=device,
        training=True,
        augment=augment,
        seed=seed,
        purpose=(stage, "pictures"),
        skip_unreadable=True,
        num_classes=data.task.num_outputs,
    )
    try:
        with warnings.catch_warnings():  # whoever trains has told what cannot be read, or will
            warnings.simplefilter("ignore", FaultWarning)
            seen = next(stream.epoch(0)).inputs
    except DataError:
        return {}
    low, high = (data.preprocess.normalize(torch.full_like(seen[:1], value)) for value in (0.0, 1.0))
    return {f"{stage}/inputs": ((seen - low) / (high - low)).clamp(0, 1).cpu()}
