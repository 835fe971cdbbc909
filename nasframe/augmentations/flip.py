"""Random mirror images."""

from typing import final

import torch

from nasframe.augmentations._image import images_of
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import Probability


@augmentations.register("flip")
@final
class Flip(Augmentation):
    """Swaps left and right of some images.

    Args:
        probability: How likely it is for an image.
    """

    def __init__(self, *, probability: Probability = 0.5) -> None:
        self._probability = probability

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_of(batch, "flip")
        draws = torch.rand(len(images), generator=generator, device=images.device)
        flipped = (draws < self._probability)[:, None, None, None]
        return Batch(torch.where(flipped, images.flip(3), images), batch.targets)
