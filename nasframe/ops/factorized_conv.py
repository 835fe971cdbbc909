"""A large convolution as two narrow ones."""

from torch import nn

from nasframe.core import ops


@ops.register("conv_7x1_1x7")
def conv_7x1_1x7(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """ReLU, a 1x7 then a 7x1 convolution, batch norm (AmoebaNet-A, Real et al. 2019)."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, in_channels, (1, 7), (1, stride), padding=(0, 3), bias=False),
        nn.Conv2d(in_channels, out_channels, (7, 1), (stride, 1), padding=(3, 0), bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    )
