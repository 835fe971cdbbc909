"""A picture whose colors are its coordinates tells what was cut out of it."""

import math

import pytest
import torch

from nasframe.augmentations.resized_crop import ResizedCrop
from nasframe.core import Batch
from nasframe.testing import check_augmentation

HEIGHT, WIDTH = 16, 24


def _boxes(min_area, count):
    """Left, right, top and bottom of the box of each of many crops, in shares of the picture."""
    x = ((torch.arange(WIDTH) + 0.5) / WIDTH).expand(HEIGHT, -1)
    y = ((torch.arange(HEIGHT) + 0.5) / HEIGHT)[:, None].expand(-1, WIDTH)
    images = torch.stack([x, y]).expand(count, -1, -1, -1)
    crop = ResizedCrop(min_area=min_area)(Batch(images, torch.zeros(count)), torch.Generator().manual_seed(0))
    across, down = crop.inputs[:, 0, HEIGHT // 2], crop.inputs[:, 1, :, WIDTH // 2]
    boxes = []
    for line in (across, down):  # linear, but for the border, where pixels are repeated
        middle = line.shape[1] // 2
        slope = line[:, middle] - line[:, middle - 1]
        center = (line[:, middle] + line[:, middle - 1]) / 2
        half = slope * line.shape[1] / 2
        boxes += [center - half, center + half]
    return boxes


def test_a_box_lies_inside_and_has_the_area_and_the_shape_that_it_may_have():
    left, right, top, bottom = _boxes(0.25, 500)
    for low, high in ((left, right), (top, bottom)):
        assert float(low.min()) > -1e-4
        assert float(high.max()) < 1 + 1e-4
    width, height = right - left, bottom - top
    area, ratio = width * height, width / height
    assert float(area.max()) <= 1 + 1e-4
    whole = (width < 0.999) & (height < 0.999)  # what is as wide as the picture may have been cut to it
    assert float(area[whole].min()) > 0.25 - 1e-3
    assert float(ratio[whole].max()) < 4 / 3 + 1e-3
    assert float(ratio[whole].min()) > 3 / 4 - 1e-3


def test_areas_and_shapes_are_drawn_uniformly():
    left, right, top, bottom = _boxes(0.08, 4000)
    width, height = right - left, bottom - top
    small = (width * height) < 0.5  # never as wide as the picture, so that nothing is cut off
    area, ratio = (width * height)[small], (width / height)[small].log() / math.log(4 / 3)
    for drawn, low, high in ((area, 0.08, 0.5), (ratio, -1, 1)):
        spread = (high - low) / math.sqrt(12)
        assert float(drawn.mean()) == pytest.approx((low + high) / 2, abs=4 * spread / math.sqrt(len(drawn)))
        assert float(drawn.std()) == pytest.approx(spread, rel=0.06)


def test_a_crop_of_all_keeps_the_promises_of_an_augmentation():
    check_augmentation(ResizedCrop)
