"""The block of MobileNetV2."""

from typing import final

import torch
from torch import nn

from nasframe.core import Block, ops
from nasframe.ops.conv_bn import conv_bn


@final
class InvertedResidual(Block):
    """Widen, filter each channel, narrow; plus the input where the shape stays (Sandler et al. 2018).

    A 1x1 convolution to `expansion` times the channels (none at expansion 1), a depthwise one, both
    with batch norm and activation, then a 1x1 convolution with batch norm alone.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd, of the depthwise convolution.
        expansion: Channels in the middle, as a multiple of those of the input.
        stride: Of the depthwise convolution.
        affine: Whether the batch norms have parameters.
        activation: ``ReLU6`` as in MobileNetV2, or another.
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
        activation: type[nn.ReLU] | type[nn.ReLU6] = nn.ReLU6,
    ) -> None:
        super().__init__()
        middle = expansion * in_channels
        widen = [conv_bn(in_channels, middle, affine=affine, activation=activation)] if expansion > 1 else []
        depthwise = conv_bn(
            middle,
            middle,
            kernel_size=kernel_size,
            stride=stride,
            groups=middle,
            affine=affine,
            activation=activation,
        )
        self.layers = nn.Sequential(*widen, depthwise, conv_bn(middle, out_channels, affine=affine))
        self._shortcut = stride == 1 and in_channels == out_channels

    def compute(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x_BCHW)
        return out + x_BCHW if self._shortcut else out


@ops.register("mb_k3_e3")
def mb_k3_e3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNetV2's block, kernel 3x3, expansion 3 (Cai et al. 2019, section 4.2)."""
    return InvertedResidual(
        in_channels, out_channels, kernel_size=3, expansion=3, stride=stride, affine=affine
    )


@ops.register("mb_k3_e6")
def mb_k3_e6(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNetV2's block, kernel 3x3, expansion 6 (Cai et al. 2019, section 4.2)."""
    return InvertedResidual(
        in_channels, out_channels, kernel_size=3, expansion=6, stride=stride, affine=affine
    )


@ops.register("mb_k5_e3")
def mb_k5_e3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNetV2's block, kernel 5x5, expansion 3 (Cai et al. 2019, section 4.2)."""
    return InvertedResidual(
        in_channels, out_channels, kernel_size=5, expansion=3, stride=stride, affine=affine
    )


@ops.register("mb_k5_e6")
def mb_k5_e6(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNetV2's block, kernel 5x5, expansion 6 (Cai et al. 2019, section 4.2)."""
    return InvertedResidual(
        in_channels, out_channels, kernel_size=5, expansion=6, stride=stride, affine=affine
    )


@ops.register("mb_k7_e3")
def mb_k7_e3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNetV2's block, kernel 7x7, expansion 3 (Cai et al. 2019, section 4.2)."""
    return InvertedResidual(
        in_channels, out_channels, kernel_size=7, expansion=3, stride=stride, affine=affine
    )


@ops.register("mb_k7_e6")
def mb_k7_e6(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """MobileNetV2's block, kernel 7x7, expansion 6 (Cai et al. 2019, section 4.2)."""
    return InvertedResidual(
        in_channels, out_channels, kernel_size=7, expansion=6, stride=stride, affine=affine
    )
