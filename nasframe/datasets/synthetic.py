"""Made-up images of any size, for trying out and for tests."""

import torch
from torch.nn import functional

from nasframe.core import (
    Dataset,
    NormalizeImages,
    Preview,
    Task,
    TensorSplit,
    datasets,
    generator_for,
    previewed_by,
    readers,
)
from nasframe.types import NonNegativeFloat, NonNegativeInt, PositiveInt

_GRID = 4
"""Patterns are this coarse, so that a shift by some pixels does not destroy them."""


def _preview(
    *, num_train: int, num_classes: int, channels: int, height: int, width: int, **others: object
) -> Preview:
    return Preview(Task((channels, height, width), num_classes), num_train)


@datasets.register("synthetic")
@previewed_by(_preview)
def synthetic(
    *,
    num_train: PositiveInt = 256,
    num_test: PositiveInt = 128,
    num_classes: PositiveInt = 4,
    channels: PositiveInt = 3,
    height: PositiveInt = 16,
    width: PositiveInt = 16,
    noise: NonNegativeFloat = 0.5,
    seed: NonNegativeInt = 0,
) -> Dataset:
    """Images of one smooth random pattern for each class, with noise: classes can be learned.

    Everything follows from the settings; classes are as equally frequent as can be.

    Args:
        num_train: Training images.
        num_test: Test images.
        num_classes: Patterns.
        channels: Channels of an image.
        height: Height in pixels.
        width: Width in pixels.
        noise: Standard deviation of the noise; the coarse values of a pattern have 1.
        seed: Draws patterns and noise; has nothing to do with a run's seed.
    """
    generator = generator_for(seed, "synthetic")
    coarse = torch.randn(num_classes, channels, _GRID, _GRID, generator=generator)
    patterns = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % num_classes
        images = patterns[labels] + noise * torch.randn(count, channels, height, width, generator=generator)
        return ((0.5 + images / 8).clamp(0, 1) * 255).round().to(torch.uint8), labels

    train_images, train_labels = draw(num_train)
    return Dataset(
        TensorSplit(train_images, train_labels),
        TensorSplit(*draw(num_test)),
        Task((channels, height, width), num_classes),
        NormalizeImages.of(train_images),
        tuple(f"pattern {index}" for index in range(num_classes)),
        readers.component("image", height=height, width=width, channels=channels)
        if channels in (1, 3)
        else None,
    )
