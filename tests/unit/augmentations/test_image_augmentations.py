"""Each random change is compared with every change that it may make, image by image."""

import pytest
import torch

from nasframe.augmentations.crop import Crop
from nasframe.augmentations.cutout import Cutout
from nasframe.augmentations.flip import Flip
from nasframe.core import Batch, augmentations
from nasframe.errors import UnsupportedError

SHAPES = [(1, 8, 8), (3, 32, 32), (2, 5, 7)]
ALL = [Crop(padding=2), Flip(), Cutout(length=3)]


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _images(count, shape, seed=0):
    return torch.rand(count, *shape, generator=_generator(seed)) + 0.01


def _apply(augmentation, images, seed=0):
    return augmentation(Batch(images, torch.arange(len(images))), _generator(seed)).inputs


def _matches(result, candidates):
    """The number of the candidate that each image is."""
    found = []
    for image, options in zip(result, candidates, strict=True):
        same = [number for number, option in enumerate(options) if torch.equal(image, option)]
        assert len(same) == 1
        found += same
    return found


def _crops(image, padding):
    channels, height, width = image.shape
    framed = torch.zeros(channels, height + 2 * padding, width + 2 * padding)
    framed[:, padding : padding + height, padding : padding + width] = image
    places = range(2 * padding + 1)
    return [framed[:, y : y + height, x : x + width] for y in places for x in places]


def _holes(image, length):
    """The image with a hole around each of its pixels, clipped at the borders."""
    _, height, width = image.shape
    options = []
    for y in range(height):
        for x in range(width):
            hole = image.clone()
            for row in range(y - length // 2, y - length // 2 + length):
                for column in range(x - length // 2, x - length // 2 + length):
                    if 0 <= row < height and 0 <= column < width:
                        hole[:, row, column] = 0
            options.append(hole)
    return options


def _chi_squared(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [1, 3])
def test_a_crop_is_a_window_of_the_image_in_a_black_frame(shape, padding):
    images = _images(12, shape)
    found = _matches(_apply(Crop(padding=padding), images), [_crops(image, padding) for image in images])
    assert len(set(found)) > 1


def test_all_windows_of_a_crop_are_equally_likely():
    images = _images(1, (1, 4, 4)).expand(4500, -1, -1, -1)
    found = _matches(_apply(Crop(padding=1), images), [_crops(images[0], 1)] * 4500)
    counts = [found.count(window) for window in range(9)]
    assert _chi_squared(counts, 500) < 26.1  # 8 degrees of freedom, p = 0.001


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flip_swaps_left_and_right_of_some_images_and_changes_no_other(shape):
    images = _images(200, shape)
    found = _matches(
        _apply(Flip(probability=0.25), images), [(i, i[:, :, list(range(i.shape[2]))[::-1]]) for i in images]
    )
    assert 25 < sum(found) < 75  # four standard deviations around 50


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, 0), (1.0, 50)])
def test_a_flip_that_is_certain_or_impossible_is_so(probability, flipped):
    images = _images(50, (1, 3, 3))
    result = _apply(Flip(probability=probability), images)
    assert sum(not torch.equal(a, b) for a, b in zip(result, images, strict=True)) == flipped


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("length", [1, 3, 4, 20])
def test_a_cutout_is_a_square_of_zeros_clipped_at_the_borders(shape, length):
    images = _images(10, shape)
    for image, result in zip(images, _apply(Cutout(length=length), images), strict=True):
        assert any(torch.equal(result, option) for option in _holes(image, length))


def test_every_pixel_is_equally_likely_the_center_of_a_cutout():
    images = _images(1, (1, 3, 3)).expand(4500, -1, -1, -1)
    found = _matches(_apply(Cutout(length=1), images), [_holes(images[0], 1)] * 4500)
    counts = [found.count(center) for center in range(9)]
    assert _chi_squared(counts, 500) < 26.1  # 8 degrees of freedom, p = 0.001


def test_only_a_cutout_works_on_normalized_images():
    after = {name for name in augmentations if augmentations[name].after_normalization}
    assert {"crop", "flip", "cutout"} <= set(augmentations)
    assert after & {"crop", "flip", "cutout"} == {"cutout"}


@pytest.mark.parametrize("augmentation", ALL, ids=lambda each: type(each).__name__)
class TestEach:
    def test_the_generator_decides_and_nothing_else(self, augmentation):
        images = _images(32, (3, 8, 8))
        torch.manual_seed(0)
        first = _apply(augmentation, images, seed=1)
        torch.manual_seed(1)
        assert torch.equal(first, _apply(augmentation, images, seed=1))
        assert not torch.equal(first, _apply(augmentation, images, seed=2))

    def test_the_global_random_state_is_left_alone(self, augmentation):
        before = torch.get_rng_state()
        _apply(augmentation, _images(4, (1, 8, 8)))
        assert torch.equal(before, torch.get_rng_state())

    def test_the_batch_that_was_given_stays_as_it_was(self, augmentation):
        images = _images(16, (3, 8, 8))
        before = images.clone()
        targets = torch.arange(16)
        result = augmentation(Batch(images, targets), _generator())
        assert torch.equal(images, before)
        assert torch.equal(result.targets, targets)
        assert result.inputs.shape == images.shape
        assert result.inputs.dtype == images.dtype

    def test_inputs_that_are_no_images_are_refused(self, augmentation):
        for inputs, got in ((torch.ones(4, 8), r"shape \(4, 8\)"), ({"x": torch.ones(4)}, "dict")):
            with pytest.raises(UnsupportedError, match=f"must be images B C H W, got .*{got}"):
                augmentation(Batch(inputs, torch.ones(4)), _generator())
