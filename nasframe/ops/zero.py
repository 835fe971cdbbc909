"""The op that cuts an edge."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import ops


@ops.register("none")
@final
class Zero(nn.Module):
    """No connection: zeros of the shape that the other candidates return (Liu et al. 2019, section 2.3).

    Attributes:
        always_zero: A mixed op need not compute it.
    """

    always_zero: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self._out_channels, self._stride = out_channels, stride
        self._keeps_shape = stride == 1 and in_channels == out_channels

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if self._keeps_shape:
            return torch.zeros_like(x_BCHW)
        read = x_BCHW[..., :: self._stride, :: self._stride]
        return x_BCHW.new_zeros(read.shape[0], self._out_channels, read.shape[2], read.shape[3])
