"""Random crops of many sizes."""

import math
from typing import Annotated, final

import torch
from annotated_types import Interval
from torch.nn import functional

from nasframe.augmentations._image import images_of
from nasframe.core import Augmentation, Batch, augmentations


@augmentations.register("resized_crop")
@final
class ResizedCrop(Augmentation):
    """Cuts a random box out of each image and scales it to the old size (Szegedy et al. 2015).

    arXiv 1409.4842, section 6: the box has from `min_area` to all of the area, and is up to 4/3 times as wide
    as high or the reverse, by a logarithmic scale; where that is more than the image, it is cut to it. Pixels
    are interpolated linearly.

    Args:
        min_area: Smallest share of the area.
    """

    def __init__(self, *, min_area: Annotated[float, Interval(gt=0, le=1)] = 0.08) -> None:
        self._min_area = min_area

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = images_of(batch, "resized_crop")
        draws = torch.rand(4, len(images), generator=generator, device=images.device)
        area = self._min_area + (1 - self._min_area) * draws[0]
        ratio = ((2 * draws[1] - 1) * math.log(4 / 3)).exp()
        shares = [(area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)]
        # from -1 to 1 over the image: half the width of the box is its share, and its middle stays inside
        middles = [(1 - share) * (2 * draw - 1) for share, draw in zip(shares, draws[2:], strict=True)]
        zero = torch.zeros_like(area)
        rows = [torch.stack([shares[0], zero, middles[0]], 1), torch.stack([zero, shares[1], middles[1]], 1)]
        grid = functional.affine_grid(
            torch.stack(rows, 1).to(images.dtype), list(images.shape), align_corners=False
        )
        cut = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return Batch(cut, batch.targets)
