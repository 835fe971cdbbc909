"""Depthwise separable convolutions."""

from collections import OrderedDict
from typing import final

from torch import nn

from nasframe.core import ops
from nasframe.ops.depthwise_conv import DepthwiseConv
from nasframe.ops.dilated_conv import DilatedDepthwiseConv
from nasframe.ops.pointwise_conv import PointwiseConv


@final
class SeparableConv(nn.Sequential):
    """Twice ReLU, depthwise convolution, 1x1 convolution, batch norm; the stride is in the first.

    Args:
        in_channels: Channels of the input, and between the two.
        out_channels: Channels of the output.
        kernel_size: Odd.
        stride: Of the first depthwise convolution.
        affine: Whether the batch norms have parameters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, affine: bool
    ) -> None:
        first = depthwise_separable(
            in_channels, in_channels, kernel_size=kernel_size, stride=stride, dilation=1, affine=affine
        )
        second = depthwise_separable(
            in_channels, out_channels, kernel_size=kernel_size, stride=1, dilation=1, affine=affine
        )
        super().__init__(OrderedDict(first=first, second=second))


def depthwise_separable(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int, dilation: int, affine: bool
) -> nn.Sequential:
    """ReLU, depthwise convolution, 1x1 convolution, batch norm; maps keep their size but for the stride.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd, of the depthwise convolution.
        stride: Of the depthwise convolution.
        dilation: Of the depthwise convolution, 1 or 2.
        affine: Whether the batch norm has parameters.
    """
    depthwise: nn.Module
    if dilation == 2:
        depthwise = DilatedDepthwiseConv(in_channels, kernel_size=kernel_size, stride=stride)
    else:
        depthwise = DepthwiseConv(in_channels, kernel_size=kernel_size, stride=stride)
    return nn.Sequential(
        nn.ReLU(),
        depthwise,
        PointwiseConv(in_channels, out_channels),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


@ops.register("sep_conv_3x3")
def sep_conv_3x3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """A 3x3 depthwise separable convolution, applied twice (Liu et al. 2019, section 3.1.1)."""
    return SeparableConv(in_channels, out_channels, kernel_size=3, stride=stride, affine=affine)


@ops.register("sep_conv_5x5")
def sep_conv_5x5(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """A 5x5 depthwise separable convolution, applied twice (Liu et al. 2019, section 3.1.1)."""
    return SeparableConv(in_channels, out_channels, kernel_size=5, stride=stride, affine=affine)


@ops.register("sep_conv_7x7")
def sep_conv_7x7(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """A 7x7 depthwise separable convolution, applied twice (NASNet-A, Zoph et al. 2018)."""
    return SeparableConv(in_channels, out_channels, kernel_size=7, stride=stride, affine=affine)


@ops.register("dil_conv_3x3")
def dil_conv_3x3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """A 3x3 depthwise separable convolution of dilation 2 (Liu et al. 2019, section 3.1.1)."""
    return depthwise_separable(
        in_channels, out_channels, kernel_size=3, stride=stride, dilation=2, affine=affine
    )


@ops.register("dil_conv_5x5")
def dil_conv_5x5(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """A 5x5 depthwise separable convolution of dilation 2 (Liu et al. 2019, section 3.1.1)."""
    return depthwise_separable(
        in_channels, out_channels, kernel_size=5, stride=stride, dilation=2, affine=affine
    )
