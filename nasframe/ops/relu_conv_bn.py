"""The 1x1 convolution that changes channels."""

from typing import final

import torch
from torch import nn

from nasframe.core import ExactBatchNorm2d
from nasframe.ops.pointwise_conv import PointwiseConv


@final
class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, batch norm: the preprocessing of a cell's input in DARTS.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        affine: Whether the batch norm has parameters; without, as in a supernet, it is an `ExactBatchNorm2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            PointwiseConv(in_channels, out_channels),
            nn.BatchNorm2d(out_channels) if affine else ExactBatchNorm2d(out_channels, affine=False),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x_BCHW)
        return out
