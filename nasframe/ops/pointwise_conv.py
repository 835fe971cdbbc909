"""The 1x1 convolution with a stride."""

from typing import final

import torch
from torch import nn
from torch.nn import functional


@final
class PointwiseConv(nn.Conv2d):
    """``nn.Conv2d`` of kernel 1 without bias, which reads only the pixels that its stride keeps.

    Same outputs, same weights. With the stride in the convolution itself, oneDNN (the CPU's kernels) writes
    past its workspace in the backward pass of a channels_last map of few channels: gradients are wrong,
    or the process dies (uxlfoundation/oneDNN issue 6035).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        rows, columns = self.stride
        return functional.conv2d(input[..., ::rows, ::columns], self.weight)
