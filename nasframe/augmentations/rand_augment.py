"""RandAugment."""

from typing import Annotated, final

import torch
from annotated_types import Interval

from nasframe.augmentations._operation import SEARCHED, Reach, images_from_0_to_1, operate, with_signs
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import PositiveInt, Probability

_HIGHEST = 30


@augmentations.register("rand_augment")
@final
class RandAugment(Augmentation):
    """Changes each image by some of 14 operations in a row, all of one strength (Cubuk et al. 2020).

    arXiv 1909.13719, section 3. Half of the signs of rotations, shears, translations and enhancements are
    negative. Posterization drops 0 to 4 bits, solarization begins at white: both grow with the magnitude,
    which they did not in the authors' code.

    Args:
        operations: How many an image goes through; one may come twice.
        magnitude: Strength of all operations, of 30.
        fill: Brightness of what comes into view at the borders, from 0 to 1.
    """

    def __init__(
        self,
        *,
        operations: PositiveInt = 2,
        magnitude: Annotated[float, Interval(ge=0, le=_HIGHEST)] = 9.0,
        fill: Probability = 0.5,
    ) -> None:
        self._operations, self._strength, self._fill = operations, magnitude / _HIGHEST, fill

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_from_0_to_1(batch, "rand_augment")
        for _ in range(self._operations):
            drawn = torch.randint(len(SEARCHED), (len(images),), generator=generator, device=images.device)
            which = [SEARCHED[index] for index in drawn.tolist()]
            strength = torch.full((len(images),), self._strength, device=images.device)
            strength = with_signs(which, strength, generator)
            images = operate(images, which, strength, Reach(), self._fill)
        return Batch(images, batch.targets)
