"""The depthwise convolution."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import depthwise_conv


@final
class DepthwiseConv(nn.Conv2d):
    """``nn.Conv2d`` with one group a channel, without bias; maps keep their size but for the stride.

    Same outputs, same weights, and in training gradients from faster kernels: see `depthwise_conv`.

    Args:
        channels: Channels of input and output.
        kernel_size: Odd.
        stride: Of the convolution.
    """

    computes_conv2d: ClassVar[bool] = True

    def __init__(self, channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel_size, stride, padding=kernel_size // 2, groups=channels, bias=False
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        return depthwise_conv(input, self.weight, stride=self.stride[0])
