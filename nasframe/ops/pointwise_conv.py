"""The 1x1 convolution."""

from typing import ClassVar, Final, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core import every

_FEW: Final = 2**18  # numbers of an input for which a matrix product is faster than the CPU's convolution
_MANY: Final = 16  # channels for which it is


@final
class PointwiseConv(nn.Conv2d):
    """``nn.Conv2d`` of kernel 1 without bias, which reads only the pixels that its stride keeps.

    Same outputs, same weights. With the stride in the convolution itself, oneDNN (the CPU's kernels) writes
    past its workspace in the backward pass of a channels_last map of few channels: gradients are wrong,
    or the process dies (uxlfoundation/oneDNN issue 6035). Small maps in channels_last are
    multiplied as matrices, which costs up to half as much on the CPU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the convolution.
    """

    computes_conv2d: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x_BCHW = every(self.stride[0], input)
        if self.training and self._is_small(x_BCHW):
            product = functional.linear(x_BCHW.permute(0, 2, 3, 1), self.weight.flatten(1))
            return product.permute(0, 3, 1, 2)
        return functional.conv2d(x_BCHW, self.weight)

    def _is_small(self, x_BCHW: torch.Tensor) -> bool:
        return (
            x_BCHW.device.type == "cpu"
            and x_BCHW.numel() <= _FEW
            and min(self.in_channels, self.out_channels) >= _MANY
            and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        )
