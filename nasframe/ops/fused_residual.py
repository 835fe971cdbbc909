"""The block of EfficientNetV2's early stages."""

from typing import final

import torch
from torch import nn

from nasframe.core import Block, ops
from nasframe.ops.conv_bn import conv_bn


@final
class FusedResidual(Block):
    """Widen by a full convolution, narrow; plus the input where the shape stays (Tan and Le, ICML 2021).

    The fused MBConv of EfficientNetV2 (arXiv 2104.00298, section 3.2): what the first 1x1 and the depthwise
    convolution of MobileNetV2's block do, one convolution does, with more operations in fewer and denser
    calls. At expansion 1 it stands alone, with its batch norm and activation. All activations are ReLU6, as
    in the blocks beside which it is a candidate; the paper's are SiLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd, of the full convolution.
        expansion: Channels in the middle, as a multiple of those of the input.
        stride: Of the full convolution.
        affine: Whether the batch norms have parameters.

    Attributes:
        written_as: What its class is called where it is written down; blocks of other forms have others.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        expansion: int,
        stride: int,
        affine: bool = True,
    ) -> None:
        super().__init__()
        middle = expansion * in_channels if expansion > 1 else out_channels
        narrow = [conv_bn(middle, out_channels, affine=affine)] if expansion > 1 else []
        self.layers = nn.Sequential(
            conv_bn(
                in_channels,
                middle,
                kernel_size=kernel_size,
                stride=stride,
                affine=affine,
                activation=nn.ReLU6,
            ),
            *narrow,
        )
        self._shortcut = stride == 1 and in_channels == out_channels
        self.written_as = "FusedResidual" if self._shortcut else "FusedBottleneck"
        if expansion == 1:
            self.written_as = "ResidualConvolution" if self._shortcut else "FusedConvolution"

    def compute(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x_BCHW)
        return out + x_BCHW if self._shortcut else out


@ops.register("fused_k3_e1")
def fused_k3_e1(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """EfficientNetV2's fused block, kernel 3x3, expansion 1 (Tan and Le 2021, table 4)."""
    return FusedResidual(in_channels, out_channels, kernel_size=3, expansion=1, stride=stride, affine=affine)


@ops.register("fused_k3_e2")
def fused_k3_e2(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """EfficientNetV2's fused block, kernel 3x3, expansion 2 (Tan and Le 2021, section 3.2)."""
    return FusedResidual(in_channels, out_channels, kernel_size=3, expansion=2, stride=stride, affine=affine)


@ops.register("fused_k3_e4")
def fused_k3_e4(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """EfficientNetV2's fused block, kernel 3x3, expansion 4 (Tan and Le 2021, table 4)."""
    return FusedResidual(in_channels, out_channels, kernel_size=3, expansion=4, stride=stride, affine=affine)
