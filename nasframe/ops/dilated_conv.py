"""Depthwise convolution of dilation 2, computed on the phases of the image."""

from collections.abc import Hashable
from typing import final

import torch
from torch import nn

from nasframe.core import InTwoSteps
from nasframe.ops._maps import every
from nasframe.ops.depthwise_conv import depthwise_conv


@final
class DilatedDepthwiseConv(nn.Conv2d, InTwoSteps):
    """``nn.Conv2d`` with one group a channel, dilation 2 and maps that keep their size but for the stride.

    Its taps only ever meet positions of one parity, so that it equals the same convolution without
    dilation on the image's four phases (or, with stride 2, on the first of them). On the CPU the
    kernels without dilation are several times faster, so training there goes by phases; elsewhere,
    in evaluation (and so in export) and for odd maps of stride 1 it is the plain convolution.

    Args:
        channels: Channels of input and output.
        kernel_size: Odd.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, *, kernel_size: int, stride: int) -> None:
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride,
            padding=kernel_size - 1,
            dilation=2,
            groups=channels,
            bias=False,
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.second_step(self.first_step(input), input)

    def sharing_key(self) -> Hashable:
        return "phases", self.stride

    def first_step(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if not self._by_phases(x_BCHW):
            return x_BCHW
        return every(2, x_BCHW) if self.stride == (2, 2) else _to_phases(x_BCHW)

    def second_step(self, made: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
        if not self._by_phases(x_BCHW):
            return super().forward(made)
        out_BCHW = depthwise_conv(made, self.weight)
        return out_BCHW if self.stride == (2, 2) else _from_phases(out_BCHW)

    def _by_phases(self, x_BCHW: torch.Tensor) -> bool:
        """Whether the kernels without dilation are used; at stride 1 the phases must be of one size."""
        height, width = x_BCHW.shape[2:]
        is_even = height % 2 == width % 2 == 0
        return x_BCHW.device.type == "cpu" and self.training and (self.stride == (2, 2) or is_even)


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
