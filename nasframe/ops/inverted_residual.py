"""The block of MobileNetV2."""

from collections.abc import Hashable
from typing import Any, Final, final

import torch
from torch import nn

from nasframe.core import Block, InTwoSteps, is_watched, ops
from nasframe.core.batch_norm import can_normalize
from nasframe.core.pointwise import is_pointwise
from nasframe.ops._normalized import is_joined, moments, narrow, widen
from nasframe.ops.conv_bn import conv_bn

_LARGE: Final = 2**18  # numbers of an input from which on fewer passes over maps outweigh more operations


@final
class InvertedResidual(Block, InTwoSteps):
    """Widen, filter each channel, narrow; plus the input where the shape stays (Sandler et al. 2018).

    A 1x1 convolution to `expansion` times the channels (none at expansion 1), a depthwise one, both
    with batch norm and activation, then a 1x1 convolution with batch norm alone.

    In training on the CPU, in channels_last, each batch norm of large maps is computed together with the
    1x1 convolution beside it: equal in value and gradient, with half the wide maps in memory. Not so while
    somebody watches a part, or has replaced one.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd, of the depthwise convolution.
        expansion: Channels in the middle, as a multiple of those of the input.
        stride: Of the depthwise convolution.
        affine: Whether the batch norms have parameters.
        activation: ``ReLU6`` as in MobileNetV2, or another.

    Attributes:
        fused: Whether it computes layers together at all.
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
        self.fused, self._stride = True, stride
        self._shortcut = stride == 1 and in_channels == out_channels
        self.written_as = "InvertedResidual" if self._shortcut else "InvertedBottleneck"
        if expansion == 1:
            self.written_as = "DepthwiseSeparable"

    def compute(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.second_step(self.first_step(x_BCHW), x_BCHW)

    def sharing_key(self) -> Hashable:
        return "moments", self._stride, self._is_read(), self.training

    def first_step(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return moments(x_BCHW) if self._is_read() and self._takes(x_BCHW) else x_BCHW

    def second_step(self, made: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor
        if self._takes(x_BCHW) and self._is_as_built():
            *widening, (filtering, norm, activation), (narrowing, last_norm) = self._blocks()
            wide = widen(x_BCHW, made, *widening[0]) if widening else x_BCHW
            out = last_norm(narrow(filtering(wide), norm, activation, narrowing))
        else:
            out = self.layers(x_BCHW)
        return out + x_BCHW if self._shortcut else out

    def _blocks(self) -> list[Any]:
        """The modules of each convolution with its batch norm."""
        return [list(block.children()) for block in self.layers]

    def _is_read(self) -> bool:
        """Whether the moments of the input are."""
        return self.fused and len(self.layers) == 3

    def _takes(self, x_BCHW: torch.Tensor) -> bool:
        """Whether layers of such a map are computed together: a large one, not of single values."""
        return (
            self.fused
            and self.training
            and x_BCHW.numel() >= _LARGE
            and x_BCHW.is_contiguous(memory_format=torch.channels_last)
            and can_normalize(x_BCHW[..., :: self._stride, :: self._stride])
        )

    def _is_as_built(self) -> bool:
        """Whether nobody watches a part, or has put another in its place."""
        *widening, _, narrowing = blocks = self._blocks()
        return (
            not any(map(is_watched, (self.layers, *self.layers)))
            and all(map(is_joined, blocks))
            and all(is_pointwise(block[0]) for block in (*widening, narrowing))
        )


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
