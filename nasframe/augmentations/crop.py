"""Random crops."""

from typing import final

import torch
from torch.nn import functional

from nasframe.augmentations._image import images_of
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import PositiveInt


@augmentations.register("crop")
@final
class Crop(Augmentation):
    """Pads each image with black and cuts its old size out at a random place, each as likely.

    Args:
        padding: Pixels at each side.
    """

    def __init__(self, *, padding: PositiveInt = 4) -> None:
        self._padding = padding

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_of(batch, "crop")
        count, _, height, width = images.shape
        padded = functional.pad(images, (self._padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        top, left = torch.randint(
            2 * self._padding + 1, (2, count), generator=generator, device=images.device
        )
        return Batch(windows[torch.arange(count, device=images.device), :, top, left], batch.targets)
