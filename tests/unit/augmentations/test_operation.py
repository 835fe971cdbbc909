"""Each operation is compared with Pillow's, which those of the papers are."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from nasframe.augmentations._operation import OPERATIONS, Reach, images_from_0_to_1, operate
from nasframe.core import Batch
from nasframe.errors import UnsupportedError

SIZE = (23, 31)  # height and width
GRAY = 128


def _levels(channels, seed=0):
    """Two random images of 8 bits, one smooth (its levels are few), B C H W."""
    draw = np.random.default_rng(seed)
    rough = draw.integers(0, 256, (channels, *SIZE))
    smooth = 40 + np.add.outer(5 * np.arange(SIZE[0]), np.arange(SIZE[1])) // 4
    return np.stack([rough, np.broadcast_to(smooth, rough.shape)]).astype(np.uint8)


def _pillow(levels_CHW):
    channels = np.moveaxis(levels_CHW, 0, 2)
    return Image.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels)


def _moved(image, matrix):
    fill = GRAY if image.mode == "L" else (GRAY,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=fill)


def _rotated(image, degrees):
    return image.rotate(degrees, fillcolor=GRAY if image.mode == "L" else (GRAY,) * 3)


def _enhanced(kind):
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


SHIFT = 150 / 331
OF_PILLOW = {
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "solarize": lambda image, s: ImageOps.solarize(image, 255 * (1 - s)),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * s)),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "rotate": lambda image, s: _rotated(image, 30 * s),
    "shear_x": lambda image, s: _moved(image, (1, 0.3 * s, 0, 0, 1, 0)),
    "shear_y": lambda image, s: _moved(image, (1, 0, 0, 0.3 * s, 1, 0)),
    "translate_x": lambda image, s: _moved(image, (1, 0, SHIFT * s * SIZE[1], 0, 1, 0)),
    "translate_y": lambda image, s: _moved(image, (1, 0, 0, 0, 1, SHIFT * s * SIZE[0])),
}
EXACT = {
    "invert",
    "solarize",
    "posterize",
    "equalize",
    *(name for name in OPERATIONS if "_" in name),
    "rotate",
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_does_what_that_of_pillow_does(name, channels):
    levels = _levels(channels)
    images = torch.from_numpy(levels).float() / 255
    for strength in (0.0, 0.3, 0.77, 1.0, *([-0.41, -1.0] if OPERATIONS[name].is_signed else [])):
        changed = operate(images, [name] * 2, torch.full((2,), strength), Reach(), GRAY / 255) * 255
        for found, image in zip(changed, levels, strict=True):
            want = np.asarray(OF_PILLOW[name](_pillow(image), strength), dtype=np.float32)
            want = torch.from_numpy(want.reshape(*SIZE, channels)).permute(2, 0, 1)
            # Pillow rounds to levels, twice where it blends with a mean
            assert torch.allclose(found, want, rtol=0, atol=1e-3 if name in EXACT else 1.6), strength


def test_there_is_a_counterpart_of_each_operation():
    assert set(OF_PILLOW) == set(OPERATIONS)


def test_each_image_goes_through_the_operation_that_is_meant_for_it_and_no_other():
    images = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    changed = operate(images, ["invert", None, "brightness", "invert"], torch.full((4,), 1.0), Reach(), 0.0)
    assert torch.equal(changed[0], 1 - images[0])
    assert torch.equal(changed[1], images[1])
    assert torch.allclose(changed[2], (1.9 * images[2]).clamp(max=1))
    assert torch.equal(changed[3], 1 - images[3])
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.full((2, 3, 4, 4), 1.5), "3 channels with values from 1.5 to 1.5"),
        (torch.zeros(2, 4, 4, 4), "4 channels with values from 0 to 0"),
    ],
)
def test_images_of_other_values_or_channels_are_refused(images, got):
    with pytest.raises(UnsupportedError, match=f"values from 0 to 1 before normalization, got {got}"):
        images_from_0_to_1(Batch(images, torch.zeros(2)), "rand_augment")


def test_equalizing_changes_the_images_of_these_tests():
    images = torch.from_numpy(_levels(3)).float() / 255
    assert not torch.allclose(operate(images, ["equalize"] * 2, torch.zeros(2), Reach(), 0.0), images)
