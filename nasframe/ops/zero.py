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

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x_BCHW[..., :: self._stride, :: self._stride].shape
        return x_BCHW.new_zeros(batch, self._out_channels, height, width)
