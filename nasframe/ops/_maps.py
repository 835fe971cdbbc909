"""What several ops do about the channels and pixels of their maps."""

import torch
from torch.nn import functional

from nasframe.errors import UnsupportedError


def require_same_channels(name: str, in_channels: int, out_channels: int) -> None:
    """Refuse a number of output channels that differs from that of the input.

    Raises:
        UnsupportedError: They differ.
    """
    if in_channels != out_channels:
        raise UnsupportedError(
            f"op `{name}` keeps its channels: out_channels must be {in_channels}, got {out_channels}; "
            "change them before it, with a 1x1 convolution"
        )


def every(stride: int, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Every `stride`-th row and column, from the first on.

    A slice's gradient loses the memory format channels_last, in which the CPU is faster; that of the
    mean over single pixels does not.
    """
    if stride == 1:
        return x_BCHW
    if x_BCHW.device.type == "cpu" and x_BCHW.is_contiguous(memory_format=torch.channels_last):
        return functional.avg_pool2d(x_BCHW, kernel_size=1, stride=stride)
    return x_BCHW[..., ::stride, ::stride]
