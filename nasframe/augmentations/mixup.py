"""Mixup."""

from typing import ClassVar, final

import torch

from nasframe.augmentations._image import images_of
from nasframe.augmentations._share import Shares, mixed_targets, partners
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import PositiveFloat, Probability


@augmentations.register("mixup")
@final
class Mixup(Augmentation):
    """Adds to a share of each image the rest of another one, and likewise their targets (Zhang et al. 2018).

    arXiv 1710.09412, equation 1: λ x + (1 − λ) x', λ y + (1 − λ) y' with λ from Beta(α, α), for each pair by
    itself; the authors' code draws one λ for a whole batch. Of several ranks each mixes its share of the
    batch.

    Args:
        alpha: α: near 0 most images stay nearly as they are.
        probability: How likely an image is mixed at all.
    """

    mixes_targets: ClassVar[bool] = True

    def __init__(self, *, alpha: PositiveFloat = 0.2, probability: Probability = 1.0) -> None:
        self._shares, self._probability = Shares(alpha), probability

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_of(batch, "mixup")
        partner = partners(len(images), generator)
        share = self._shares.draw(len(images), generator)
        is_mixed = torch.rand(len(images), generator=generator, device=images.device) < self._probability
        share = torch.where(is_mixed, share, 1.0)
        wide = share.to(images.dtype)[:, None, None, None]
        mixed = wide * images + (1 - wide) * images[partner]
        return Batch(mixed, mixed_targets(batch, partner, share, "mixup"))
