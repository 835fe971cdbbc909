"""AutoAugment."""

from typing import Final, Literal, final

import torch

from nasframe.augmentations._operation import Reach, images_from_0_to_1, operate, with_signs
from nasframe.augmentations._policy import POLICIES
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import Probability

_HIGHEST: Final = 9


@augmentations.register("auto_augment")
@final
class AutoAugment(Augmentation):
    """Changes each image by one of 25 pairs of operations that were found for a data set (Cubuk et al. 2019).

    arXiv 1805.09501, appendix. Ranges are those of the paper's table 6. Half of the signs of rotations,
    shears, translations and enhancements are negative. Posterization and solarization grow with the level,
    as in the authors' code for CIFAR; in that for ImageNet they fall.

    Args:
        policy: The data set that the pairs were found for.
        fill: Brightness of what comes into view at the borders, from 0 to 1.
    """

    def __init__(
        self, *, policy: Literal["cifar10", "imagenet", "svhn"] = "imagenet", fill: Probability = 0.5
    ) -> None:
        self._pairs, self._fill = POLICIES[policy], fill

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_from_0_to_1(batch, "auto_augment")
        count, device = len(images), images.device
        pairs = torch.randint(len(self._pairs), (count,), generator=generator, device=device).tolist()
        chances = torch.rand(2, count, generator=generator, device=device).tolist()
        for turn, chance in enumerate(chances):
            parts = [self._pairs[pair][turn] for pair in pairs]
            which = [
                part.operation if drawn < part.probability else None
                for part, drawn in zip(parts, chance, strict=True)
            ]
            strength = torch.tensor([part.level / _HIGHEST for part in parts], device=device)
            strength = with_signs(which, strength, generator)
            images = operate(images, which, strength, Reach(), self._fill)
        return Batch(images, batch.targets)
