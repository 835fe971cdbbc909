"""Operations that policies such as RandAugment are made of, on images B C H W from 0 to 1."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from torch.nn import functional

from nasframe.augmentations._image import images_of
from nasframe.core import Batch
from nasframe.errors import UnsupportedError

_LEVELS: Final = 255  # the highest of 8 bits
_SLACK: Final = 1e-3  # of rounding in augmentations before


@final
@dataclass(frozen=True)
class Reach:
    """The amounts of operations at full strength.

    Attributes:
        shear: Pixels to the side for each pixel down.
        shift: Share of the width or height.
        shift_pixels: Pixels besides.
        degrees: Of a rotation.
        enhancement: What the factor of an enhancement differs from 1 by.
        bits: How many of 8 are dropped.
    """

    shear: float = 0.3
    shift: float = 150 / 331
    shift_pixels: float = 0.0
    degrees: float = 30.0
    enhancement: float = 0.9
    bits: float = 4.0


Apply: TypeAlias = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Changes images B C H W by amounts of shape B; what comes into view from outside has a brightness."""

Amount: TypeAlias = Callable[[torch.Tensor, Reach, torch.Size], torch.Tensor]
"""What strengths B from 0 to 1 (-1 to 1 of signed operations) mean for images of a shape."""


@final
@dataclass(frozen=True)
class Operation:
    """An operation.

    Attributes:
        apply: Changes images.
        amount: From strengths to what `apply` takes.
        is_signed: Whether strengths have a sign.
    """

    apply: Apply
    amount: Amount
    is_signed: bool = False


def images_from_0_to_1(batch: Batch, augmentation: str) -> torch.Tensor:
    """The inputs of a batch, B C H W, with 1 or 3 channels.

    Raises:
        UnsupportedError: They are anything else.
    """
    images = images_of(batch, augmentation)
    low, high = (float(bound) for bound in images.aminmax())
    if images.shape[1] in (1, 3) and low >= -_SLACK and high <= 1 + _SLACK:
        return images
    raise UnsupportedError(
        f"augmentation `{augmentation}`: images must be gray or RGB with values from 0 to 1 before "
        f"normalization, got {images.shape[1]} channels with values from {low:.4g} to {high:.4g}; "
        "take crop, flip, cutout, mixup or cutmix for other data"
    )


def operate(
    images: torch.Tensor,
    which: Sequence[str | None],
    strength_B: torch.Tensor,
    reach: Reach,
    fill: float,
) -> torch.Tensor:
    """Change each image by an operation of its own.

    Args:
        images: B C H W from 0 to 1; stay as they are.
        which: The name of each image's operation, B of them; None for none.
        strength_B: With signs where operations are signed.
        reach: What full strength is.
        fill: Brightness of what comes into view.
    """
    changed = images.clone()
    for name, operation in OPERATIONS.items():
        if places := [place for place, wanted in enumerate(which) if wanted == name]:
            chosen = torch.tensor(places, device=images.device)
            amounts = operation.amount(strength_B[chosen], reach, images.shape)
            changed[chosen] = operation.apply(images[chosen], amounts, fill)
    return changed


def _moved(
    x_BCHW: torch.Tensor, rows: Sequence[tuple[torch.Tensor | float, ...]], fill: float
) -> torch.Tensor:
    """Each pixel is that whose square its center comes from, by an affine map of the output to the input.

    Args:
        x_BCHW: Images.
        rows: The map's (a, b, c) for x, then for y: a x + b y + c, each of shape B or one for all.
        fill: Brightness of what comes from outside.
    """
    height, width = x_BCHW.shape[2:]
    y_H1 = torch.arange(height, device=x_BCHW.device)[:, None] + 0.5
    x_1W = torch.arange(width, device=x_BCHW.device)[None] + 0.5

    def source(row: tuple[torch.Tensor | float, ...]) -> torch.Tensor:
        a, b, c = (torch.as_tensor(each, device=x_BCHW.device).reshape(-1, 1, 1) for each in row)
        return (a * x_1W + b * y_H1 + c).floor().long().expand(len(x_BCHW), height, width)

    column, line = source(rows[0]), source(rows[1])
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    place = line.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    index = place.view(len(x_BCHW), 1, -1).expand(-1, x_BCHW.shape[1], -1)
    picked = x_BCHW.flatten(2).gather(2, index).view_as(x_BCHW)
    return torch.where(inside[:, None], picked, fill)


def _shear_x(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    return _moved(x, [(1.0, amount, 0.0), (0.0, 1.0, 0.0)], fill)


def _shear_y(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    return _moved(x, [(1.0, 0.0, 0.0), (amount, 1.0, 0.0)], fill)


def _translate_x(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    return _moved(x, [(1.0, 0.0, amount), (0.0, 1.0, 0.0)], fill)


def _translate_y(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    return _moved(x, [(1.0, 0.0, 0.0), (0.0, 1.0, amount)], fill)


def _rotate(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    """Counterclockwise around the center."""
    cos, sin = torch.cos(amount), torch.sin(amount)
    middle_y, middle_x = x.shape[2] / 2, x.shape[3] / 2
    for_x = (cos, -sin, middle_x - cos * middle_x + sin * middle_y)
    for_y = (sin, cos, middle_y - sin * middle_x - cos * middle_y)
    return _moved(x, [for_x, for_y], fill)


def _gray(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Luma of ITU-R 601-2, B 1 H W."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    shares = x_BCHW.new_tensor([0.299, 0.587, 0.114])
    return (x_BCHW * shares[:, None, None]).sum(1, keepdim=True)


def _smooth(x_BCHW: torch.Tensor) -> torch.Tensor:
    """A mean of each pixel, five times, and its neighbors; the border stays."""
    if min(x_BCHW.shape[2:]) < 3:
        return x_BCHW
    kernel = x_BCHW.new_ones(1, 1, 3, 3)
    kernel[0, 0, 1, 1] = 5
    inner = functional.conv2d(x_BCHW.flatten(0, 1)[:, None], kernel / kernel.sum())
    smooth = x_BCHW.clone()
    smooth[:, :, 1:-1, 1:-1] = inner.view(*x_BCHW.shape[:2], *inner.shape[2:])
    return smooth


def _enhance(from_image: Callable[[torch.Tensor], torch.Tensor]) -> Operation:
    """Blend what `from_image` makes, at factor 0, with the image, at 1, and beyond."""

    def apply(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
        dull = from_image(x)
        return (dull + amount[:, None, None, None] * (x - dull)).clamp(0, 1)

    return Operation(apply, lambda strength, reach, shape: 1 + strength * reach.enhancement, is_signed=True)


def _posterize(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    """Keep the highest `amount` of 8 bits."""
    step = 2 ** (8 - amount)[:, None, None, None]
    return (_levels(x) / step).floor() * step / _LEVELS


def _solarize(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    """Invert what is at least so bright."""
    return torch.where(x >= amount[:, None, None, None], 1 - x, x)


def _autocontrast(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    """Stretch each channel to black and white; one that is all alike stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / span.clamp(min=torch.finfo(x.dtype).tiny), x)


def _equalize(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    """Make the levels of each channel as frequent as each other, as far as that goes."""
    level = _levels(x).long().flatten(2)
    first = (_LEVELS + 1) * torch.arange(level[..., 0].numel(), device=x.device).view(*x.shape[:2], 1)
    count = torch.bincount((first + level).flatten(), minlength=first.numel() * (_LEVELS + 1))
    count = count.view(*x.shape[:2], _LEVELS + 1)
    highest = level.amax(2, keepdim=True)
    step = (level.shape[2] - count.gather(2, highest)) // _LEVELS
    below = count.cumsum(2) - count
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=_LEVELS)
    even = table.gather(2, level).view_as(x).to(x.dtype) / _LEVELS
    return torch.where((step > 0)[..., None], even, x)


def _invert(x: torch.Tensor, amount: torch.Tensor, fill: float) -> torch.Tensor:
    return 1 - x


def _levels(x: torch.Tensor) -> torch.Tensor:
    """Of 8 bits, still floats."""
    return (x * _LEVELS).round().clamp(0, _LEVELS)


def _mean_gray(x: torch.Tensor) -> torch.Tensor:
    return _gray(x).mean((2, 3), keepdim=True)


def _pixels(axis: int) -> Amount:
    return lambda strength, reach, shape: strength * (reach.shift * shape[axis] + reach.shift_pixels)


def _by_shear(strength: torch.Tensor, reach: Reach, shape: torch.Size) -> torch.Tensor:
    return strength * reach.shear


def _nothing(strength: torch.Tensor, reach: Reach, shape: torch.Size) -> torch.Tensor:
    return strength


OPERATIONS: Final[Mapping[str, Operation]] = {
    "autocontrast": Operation(_autocontrast, _nothing),
    "equalize": Operation(_equalize, _nothing),
    "rotate": Operation(
        _rotate, lambda strength, reach, shape: strength * reach.degrees * (math.pi / 180), is_signed=True
    ),
    "solarize": Operation(_solarize, lambda strength, reach, shape: 1 - strength),
    "color": _enhance(_gray),
    "posterize": Operation(_posterize, lambda strength, reach, shape: 8 - (strength * reach.bits).round()),
    "contrast": _enhance(_mean_gray),
    "brightness": _enhance(torch.zeros_like),
    "sharpness": _enhance(_smooth),
    "shear_x": Operation(_shear_x, _by_shear, is_signed=True),
    "shear_y": Operation(_shear_y, _by_shear, is_signed=True),
    "translate_x": Operation(_translate_x, _pixels(3), is_signed=True),
    "translate_y": Operation(_translate_y, _pixels(2), is_signed=True),
    "invert": Operation(_invert, _nothing),
}
"""By name; amounts are those of Pillow, angles in radians, thresholds from 0 to 1."""

SEARCHED: Final = (None, *(name for name in OPERATIONS if name != "invert"))
"""What RandAugment and TrivialAugment choose from (Cubuk et al. 2020, section 3); None changes nothing."""


def signs(count: int, generator: torch.Generator) -> torch.Tensor:
    """+1 and −1 alike often, of shape B."""
    return torch.randint(2, (count,), generator=generator, device=generator.device) * 2.0 - 1.0


def with_signs(
    which: Sequence[str | None], strength_B: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Strengths with a sign where operations are signed."""
    signed = [name is not None and OPERATIONS[name].is_signed for name in which]
    drawn = signs(len(which), generator)
    return torch.where(torch.tensor(signed, device=drawn.device), strength_B * drawn, strength_B)
