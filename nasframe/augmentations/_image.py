"""What the augmentations of images have in common."""

import torch

from nasframe.core import Batch
from nasframe.errors import UnsupportedError


def images_of(batch: Batch, augmentation: str) -> torch.Tensor:
    """The inputs of a batch, B C H W.

    Raises:
        UnsupportedError: They are anything else.
    """
    images = batch.inputs
    if isinstance(images, torch.Tensor) and images.ndim == 4:
        return images
    got = f"a tensor of shape {tuple(images.shape)}" if isinstance(images, torch.Tensor) else type(images)
    raise UnsupportedError(
        f"augmentation `{augmentation}`: inputs must be images B C H W, got {got}; "
        "leave it out of the recipe's `augment` for other data"
    )
