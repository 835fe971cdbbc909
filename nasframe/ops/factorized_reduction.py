"""The cheap layer that halves a map."""

from typing import ClassVar, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core import ExactBatchNorm2d
from nasframe.errors import UnsupportedError
from nasframe.ops.pointwise_conv import PointwiseConv


@final
class FactorizedReduction(nn.Module):
    """Halves height and width with two 1x1 convolutions of stride 2, one of them a pixel off.

    Each makes half of the output channels, so that together they read pixels of even and of odd
    coordinates. Of an odd height or width the output has (size + 1) / 2: the second convolution then
    reads a border of zeros, where the authors of DARTS, who have even sizes only, would fail.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, at least 2.
        affine: Whether the batch norm has parameters; without, as in a supernet, it is an `ExactBatchNorm2d`.

    Attributes:
        passes_on: As a candidate it counts as a skip connection: it stands for one where maps are halved.

    Raises:
        UnsupportedError: There is one output channel, which cannot be halved.
    """

    passes_on: ClassVar[bool] = True

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        if out_channels < 2:
            raise UnsupportedError(
                f"factorized reduction: out_channels must be at least 2, got {out_channels}; use more"
            )
        half = out_channels // 2
        self.even = PointwiseConv(in_channels, half, stride=2)
        self.odd = PointwiseConv(in_channels, out_channels - half, stride=2)
        self.norm = nn.BatchNorm2d(out_channels) if affine else ExactBatchNorm2d(out_channels, affine=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = functional.relu(x_BCHW)
        shifted = functional.pad(x_BCHW, (-1, x_BCHW.shape[3] % 2, -1, x_BCHW.shape[2] % 2))
        out: torch.Tensor = self.norm(torch.cat([self.even(x_BCHW), self.odd(shifted)], dim=1))
        return out
