"""Depthwise convolution of dilation 2, computed on the phases of the image."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import AS_IT_IS, PHASES, arrangement_of, depthwise_conv, dilated_depthwise_conv


@final
class DilatedDepthwiseConv(nn.Conv2d):
    """``nn.Conv2d`` with one group a channel, dilation 2 and maps that keep their size but for the stride.

    In training on the CPU it goes by phases (see `arrangement_of`), whose kernels are several times
    faster; elsewhere, in evaluation (and so in export) and for odd maps of stride 1 it is the plain
    convolution.

    Args:
        channels: Channels of input and output.
        kernel_size: Odd.
        stride: 1 or 2.
    """

    computes_conv2d: ClassVar[bool] = True

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
        arrangement = arrangement_of(self, input)
        if arrangement is AS_IT_IS or input.device.type != "cpu" or not self.training:
            return super().forward(input)
        if arrangement is PHASES:
            return dilated_depthwise_conv(input, self.weight)
        return arrangement.restore(depthwise_conv(arrangement.arrange(input), self.weight))
