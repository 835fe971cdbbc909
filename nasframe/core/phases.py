"""Other arrangements of an image's pixels, on which a convolution is computed faster."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, final

import torch
from torch import nn


class Arrangement(NamedTuple):
    """An order of an image's pixels.

    Attributes:
        arrange: From B C H W. The input itself, or what is nobody else's.
        restore: Back to it. What acts on each pixel alone may come before.
    """

    arrange: Callable[[torch.Tensor], torch.Tensor]
    restore: Callable[[torch.Tensor], torch.Tensor]


def arrangement_of(conv: nn.Conv2d, x_BCHW: torch.Tensor) -> Arrangement:
    """Where a convolution of one kernel a channel, in training on the CPU, is fast without its dilation.

    Taps of dilation 2 only ever meet positions of one parity, so that it equals the same convolution without
    dilation on the image's four phases (or, with stride 2, on the first of them).
    """
    if conv.dilation != (2, 2):
        return AS_IT_IS
    if conv.stride == (2, 2):
        return FIRST_PHASE
    height, width = x_BCHW.shape[2:]
    return PHASES if conv.stride == (1, 1) and height % 2 == width % 2 == 0 else AS_IT_IS


def every(stride: int, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Every `stride`-th row and column, from the first on.

    A slice's gradient loses the memory format channels_last, in which the CPU is faster. Nothing of the input
    is kept for it.
    """
    if stride == 1:
        return x_BCHW
    is_fast = x_BCHW.device.type == "cpu" and x_BCHW.is_contiguous(memory_format=torch.channels_last)
    if is_fast and not torch.compiler.is_compiling():
        kept_BCHW: torch.Tensor = _Every.apply(stride, x_BCHW)  # type: ignore[no-untyped-call]
        return kept_BCHW
    return x_BCHW[..., ::stride, ::stride]


@final
class _Every(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stride: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        ctx.stride, ctx.shape = stride, x_BCHW.shape
        return x_BCHW[..., ::stride, ::stride].clone(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[None, torch.Tensor]:
        b, c, h, w = ctx.shape
        of_x_BCHW = grad_BCHW.new_zeros(b, h, w, c).permute(0, 3, 1, 2)
        of_x_BCHW[..., :: ctx.stride, :: ctx.stride] = grad_BCHW
        return None, of_x_BCHW


def _to_phases(x_BCHW: torch.Tensor) -> torch.Tensor:
    """B C H W to 4B C H/2 W/2, the phases one after the other."""
    b, c, h, w = x_BCHW.shape
    if x_BCHW.is_contiguous(memory_format=torch.channels_last):
        parts = x_BCHW.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, c).permute(2, 4, 0, 1, 3, 5)
        return parts.reshape(4 * b, h // 2, w // 2, c).permute(0, 3, 1, 2)
    parts = x_BCHW.reshape(b, c, h // 2, 2, w // 2, 2).permute(3, 5, 0, 1, 2, 4)
    return parts.reshape(4 * b, c, h // 2, w // 2)


def _from_phases(x_BCHW: torch.Tensor) -> torch.Tensor:
    """The inverse of `_to_phases`."""
    b, c, h, w = x_BCHW.shape
    if x_BCHW.is_contiguous(memory_format=torch.channels_last):
        parts = x_BCHW.permute(0, 2, 3, 1).reshape(2, 2, b // 4, h, w, c).permute(2, 3, 0, 4, 1, 5)
        return parts.reshape(b // 4, 2 * h, 2 * w, c).permute(0, 3, 1, 2)
    parts = x_BCHW.reshape(2, 2, b // 4, c, h, w).permute(2, 3, 4, 0, 5, 1)
    return parts.reshape(b // 4, c, 2 * h, 2 * w)


def _same(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW


AS_IT_IS: Final = Arrangement(_same, _same)
PHASES: Final = Arrangement(_to_phases, _from_phases)
FIRST_PHASE: Final = Arrangement(partial(every, 2), _same)
