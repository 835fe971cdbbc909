"""Pooling ops."""

from torch import nn

from nasframe.core import ops
from nasframe.ops._maps import require_same_channels


@ops.register("max_pool_3x3")
def max_pool_3x3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """The largest value of each 3x3 window (Liu et al. 2019, section 3.1.1)."""
    require_same_channels("max_pool_3x3", in_channels, out_channels)
    return nn.MaxPool2d(3, stride, padding=1)


@ops.register("avg_pool_3x3")
def avg_pool_3x3(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """The mean of each 3x3 window; padding does not count (Liu et al. 2019, section 3.1.1)."""
    require_same_channels("avg_pool_3x3", in_channels, out_channels)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
