"""CutMix."""

from typing import ClassVar, final

import torch

from nasframe.augmentations._image import images_of
from nasframe.augmentations._share import Shares, mixed_targets, partners
from nasframe.core import Augmentation, Batch, augmentations
from nasframe.types import PositiveFloat, Probability


@augmentations.register("cutmix")
@final
class Cutmix(Augmentation):
    """Pastes a box of another image into each image, and mixes their targets by area (Yun et al. 2019).

    arXiv 1905.04899, section 3.1: the box has the shape of the image and 1 − λ of its area, λ from Beta(α,
    α), around a center drawn from all pixels; what lies outside is cut off, and the targets count what is
    left. Each image has a box of its own; the authors' code draws one for a whole batch. Of several ranks
    each mixes its share of the batch.

    Args:
        alpha: α; at 1 all areas are equally likely.
        probability: How likely an image gets a box at all.
    """

    mixes_targets: ClassVar[bool] = True

    def __init__(self, *, alpha: PositiveFloat = 1.0, probability: Probability = 1.0) -> None:
        self._shares, self._probability = Shares(alpha), probability

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_of(batch, "cutmix")
        partner = partners(len(images), generator)
        side = (1 - self._shares.draw(len(images), generator)).sqrt()
        is_mixed = torch.rand(len(images), generator=generator, device=images.device) < self._probability
        side = torch.where(is_mixed, side, 0.0)
        rows = _covered(side, images.shape[2], generator)
        columns = _covered(side, images.shape[3], generator)
        box = rows[:, :, None] & columns[:, None, :]
        share = 1 - rows.sum(1) * columns.sum(1) / (images.shape[2] * images.shape[3])
        mixed = torch.where(box[:, None], images[partner], images)
        return Batch(mixed, mixed_targets(batch, partner, share, "cutmix"))


def _covered(side_B: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Which of `size` places each box covers in one direction, as a share of them; B x size."""
    length = (side_B * size).long()[:, None]
    center = torch.randint(size, (len(side_B), 1), generator=generator, device=side_B.device)
    start = center - length // 2
    place = torch.arange(size, device=side_B.device)
    return (place >= start) & (place < start + length)
