"""A convolution, its batch norm and its activation."""

from torch import nn

from nasframe.ops.depthwise_conv import DepthwiseConv


def conv_bn(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    affine: bool = True,
    activation: type[nn.ReLU] | type[nn.ReLU6] | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation; at stride 1 the map keeps its size.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd.
        stride: Of the convolution.
        groups: Of the convolution.
        affine: Whether the batch norm has parameters.
        activation: What follows, working in place; None for nothing.
    """
    conv: nn.Conv2d
    if 1 < groups == in_channels == out_channels:
        conv = DepthwiseConv(in_channels, kernel_size=kernel_size, stride=stride)
    else:
        padding = kernel_size // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
    norm = nn.BatchNorm2d(out_channels, affine=affine)
    return nn.Sequential(conv, norm, *([activation(inplace=True)] if activation else []))
