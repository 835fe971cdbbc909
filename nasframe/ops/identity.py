"""The op that does as little as the shapes allow."""

from torch import nn

from nasframe.core import ops
from nasframe.ops.pointwise_conv import PointwiseConv


@ops.register("identity")
def identity(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """The input itself; where the shape changes, a 1x1 convolution with the stride, and batch norm.

    The projection of a residual network (He et al. 2016, option B).
    """
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        PointwiseConv(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels, affine=affine)
    )
