"""Convolutions between their ReLU and their batch norm."""

from torch import nn

from nasframe.core import ExactBatchNorm2d, ops
from nasframe.ops.pointwise_conv import PointwiseConv


def normal_conv(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int, affine: bool
) -> nn.Sequential:
    """ReLU, convolution without bias, batch norm; at stride 1 the map keeps its size.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd.
        stride: Of the convolution.
        affine: Whether the batch norm has parameters.
    """
    conv: nn.Conv2d
    if kernel_size == 1:
        conv = PointwiseConv(in_channels, out_channels, stride=stride)
    else:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, ExactBatchNorm2d(out_channels, affine=affine))


@ops.register("nor_conv_1x1")
def nor_conv_1x1(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """ReLU, 1x1 convolution, batch norm (Dong and Yang 2020, section 2.1)."""
    return normal_conv(in_channels, out_channels, kernel_size=1, stride=stride, affine=affine)


@ops.register("nor_conv_3x3")
def nor_conv_3x3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """ReLU, 3x3 convolution, batch norm (Dong and Yang 2020, section 2.1)."""
    return normal_conv(in_channels, out_channels, kernel_size=3, stride=stride, affine=affine)
