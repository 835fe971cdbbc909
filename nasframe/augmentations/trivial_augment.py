"""TrivialAugment."""

from typing import Final, final

import torch

from nasframe.augmentations._operation import SEARCHED, Reach, images_from_0_to_1, operate, with_signs
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import Probability

_STRENGTHS: Final = 31
_WIDE: Final = Reach(shear=0.99, shift=0.0, shift_pixels=32.0, degrees=135.0, enhancement=0.99, bits=6.0)


@augmentations.register("trivial_augment")
@final
class TrivialAugment(Augmentation):
    """Changes each image by one of 14 operations, of a strength drawn anew (Müller and Hutter 2021).

    arXiv 2103.10158, algorithm 1 with the wide space of table 1: nothing is to be tuned. Strengths are 0, 1,
    … 30 of 30; translations reach 32 pixels, whatever the size of the image.

    Args:
        fill: Brightness of what comes into view at the borders, from 0 to 1.
    """

    def __init__(self, *, fill: Probability = 0.0) -> None:
        self._fill = fill

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_from_0_to_1(batch, "trivial_augment")
        count, device = (len(images),), images.device
        drawn = torch.randint(len(SEARCHED), count, generator=generator, device=device)
        which = [SEARCHED[index] for index in drawn.tolist()]
        strength = torch.randint(_STRENGTHS, count, generator=generator, device=device) / (_STRENGTHS - 1)
        changed = operate(images, which, with_signs(which, strength, generator), _WIDE, self._fill)
        return Batch(changed, batch.targets)
