"""The depthwise convolution."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, final

import torch
from torch import nn
from torch.nn import functional

_WIDEST: Final = 3  # columns of a depthwise kernel whose gradient oneDNN has a fast kernel for on AVX2
_FEW: Final = 64  # channels for which a convolution of the gradient is faster than oneDNN's own kernel for it


@final
class DepthwiseConv(nn.Conv2d):
    """``nn.Conv2d`` with one group a channel, without bias; maps keep their size but for the stride.

    Same outputs, same weights, and in training gradients from faster kernels: see `depthwise_conv`.

    Args:
        channels: Channels of input and output.
        kernel_size: Odd.
        stride: Of the convolution.
    """

    def __init__(self, channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel_size, stride, padding=kernel_size // 2, groups=channels, bias=False
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        return depthwise_conv(input, self.weight, stride=self.stride[0])


def depthwise_conv(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, *, stride: int = 1) -> torch.Tensor:
    """A convolution of each channel with its own odd kernel, padded by half of it.

    On CPUs with AVX2, in channels_last, oneDNN's gradient of a kernel wider than 3 takes up to twenty
    times as long as that of one of 3 columns. There it is put together from columns, at most 3 a time.
    """
    if _has_slow_gradients(x_BCHW, weight_C1KK):
        out_BCHW: torch.Tensor = _Depthwise.apply(x_BCHW, weight_C1KK, stride)  # type: ignore[no-untyped-call]
        return out_BCHW
    return _plain(x_BCHW, weight_C1KK, stride)


def _has_slow_gradients(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor) -> bool:
    return (
        x_BCHW.device.type == "cpu"
        and torch.is_grad_enabled()
        and x_BCHW.dtype == weight_C1KK.dtype
        and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _plain(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int) -> torch.Tensor:
    padding, groups = weight_C1KK.shape[-1] // 2, len(weight_C1KK)
    return functional.conv2d(x_BCHW, weight_C1KK, None, stride, padding, groups=groups)


@final
class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int) -> torch.Tensor:
        ctx.save_for_backward(x_BCHW, weight_C1KK)
        ctx.stride = stride
        return _plain(x_BCHW, weight_C1KK, stride)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BCHW, weight_C1KK = ctx.saved_tensors
        of_x, of_weight = None, None
        if torch.is_grad_enabled():
            size, wanted = weight_C1KK.shape[-1], [*ctx.needs_input_grad[:2], False]
            of_x, of_weight, _ = _gradients(
                grad_BCHW, x_BCHW, weight_C1KK, ctx.stride, [size // 2] * 2, wanted
            )
            return of_x, of_weight, None
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(grad_BCHW, x_BCHW, weight_C1KK, ctx.stride)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(grad_BCHW, x_BCHW, weight_C1KK, ctx.stride)
        return of_x, of_weight, None


def _gradient_of_input(
    grad_BCHW: torch.Tensor, x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int
) -> Any:
    if stride == 1 and len(weight_C1KK) <= _FEW:  # a convolution too, whose kernel starts quicker
        return _plain(grad_BCHW, weight_C1KK.flip(2, 3), 1)
    padding = weight_C1KK.shape[-1] // 2
    return _gradients(grad_BCHW, x_BCHW, weight_C1KK, stride, [padding] * 2, [True, False, False])[0]


def _gradient_of_weight(
    grad_BCHW: torch.Tensor, x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int
) -> Any:
    """Put together from columns of the kernel, which read an input that is padded accordingly."""
    size, (height, width) = weight_C1KK.shape[-1], x_BCHW.shape[2:]
    padding, wanted = size // 2, [False, True, False]
    if size <= _WIDEST or stride > 1 or width <= padding:
        return _gradients(grad_BCHW, x_BCHW, weight_C1KK, stride, [padding] * 2, wanted)[1]
    rows = 0 if height >= size else padding  # the fast kernels want maps as high as the kernel
    parts = []
    for first, count in _columns(size):
        left, right = padding - first, first + count - 1 - padding
        if left == right and not rows:
            read_BCHW, pads = x_BCHW, [padding, left]
        else:
            read_BCHW = functional.pad(x_BCHW, (left, right, rows, rows))
            pads = [padding - rows, 0]
        parts.append(_gradients(grad_BCHW, read_BCHW, weight_C1KK[..., :count], 1, pads, wanted)[1])
    return torch.cat(parts, dim=3)


def _columns(size: int) -> Iterator[tuple[int, int]]:
    """First column and number of columns of each part of a kernel; the middle part is in the middle."""
    num_parts = -(-size // _WIDEST)
    ends = [round(size * part / num_parts) for part in range(num_parts + 1)]
    return ((first, last - first) for first, last in pairwise(ends))


def _gradients(
    grad_BCHW: torch.Tensor,
    x_BCHW: torch.Tensor,
    weight_C1KK: torch.Tensor,
    stride: int,
    padding: list[int],
    wanted: list[bool],
) -> Any:
    """Of input, weight and bias, as PyTorch computes them; None where they are not wanted."""
    return torch.ops.aten.convolution_backward(
        grad_BCHW,
        x_BCHW,
        weight_C1KK,
        None,
        [stride] * 2,
        padding,
        [1, 1],
        False,
        [0, 0],
        len(weight_C1KK),
        wanted,
    )
