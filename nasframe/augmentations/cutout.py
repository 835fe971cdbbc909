"""Random holes."""

from typing import ClassVar, final

import torch

from nasframe.augmentations._image import images_of
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import PositiveInt


@augmentations.register("cutout")
@final
class Cutout(Augmentation):
    """Fills a square of each image with the mean color (DeVries and Taylor 2017, arXiv 1708.04552).

    The center is drawn uniformly among all pixels, so that a part of the square may lie outside. An
    odd length is kept; the authors' code makes the square one pixel smaller then.

    Args:
        length: Side of the square in pixels.
    """

    after_normalization: ClassVar[bool] = True

    def __init__(self, *, length: PositiveInt = 16) -> None:
        self._length = length

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_of(batch, "cutout")
        rows = self._covered(len(images), images.shape[2], generator)
        columns = self._covered(len(images), images.shape[3], generator)
        hole = rows[:, :, None] & columns[:, None, :]
        return Batch(images.masked_fill(hole[:, None], 0), batch.targets)

    def _covered(self, count: int, size: int, generator: torch.Generator) -> torch.Tensor:
        """Which of `size` places each of `count` squares covers, in one direction."""
        center = torch.randint(size, (count, 1), generator=generator, device=generator.device)
        start = center - self._length // 2
        place = torch.arange(size, device=generator.device)
        return (place >= start) & (place < start + self._length)
