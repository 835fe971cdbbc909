"""Depthwise convolutions, several at once, with gradients from the kernels that are fast."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, TypeGuard, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core.phases import PHASES

_WIDEST: Final = 3  # columns of a depthwise kernel whose gradient oneDNN has a fast kernel for on AVX2


def is_conv2d(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer computes what ``nn.Conv2d`` of its settings and weight does.

    That is ``nn.Conv2d`` itself, and a subclass that says so (``computes_conv2d = True``).
    """
    return type(layer) is nn.Conv2d or (
        isinstance(layer, nn.Conv2d) and bool(getattr(layer, "computes_conv2d", False))
    )


def depthwise_conv(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, *, stride: int = 1) -> torch.Tensor:
    """A convolution of each channel with its own odd kernel, padded by half of it.

    On CPUs with AVX2, in channels_last, oneDNN's gradient of a kernel wider than 3 takes up to twenty
    times as long as that of one of 3 columns. There it is put together from columns, at most 3 a time.
    """
    if _is_in_training(x_BCHW, weight_C1KK) and _is_split(x_BCHW, weight_C1KK, stride, 1):
        return depthwise_convs([x_BCHW], [weight_C1KK], stride=stride)
    return _plain(x_BCHW, weight_C1KK, stride)


def dilated_depthwise_conv(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor) -> torch.Tensor:
    """The same of dilation 2, computed on the image's `PHASES`, which it must have.

    The phases are made again in the backward pass: what is kept is the input, which a ReLU before keeps too.
    """
    if not _is_in_training(x_BCHW, weight_C1KK):
        return PHASES.restore(_plain(PHASES.arrange(x_BCHW), weight_C1KK))
    out_BCHW: torch.Tensor = _Dilated.apply(x_BCHW, weight_C1KK)  # type: ignore[no-untyped-call]
    return out_BCHW


def depthwise_convs(
    xs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    *,
    stride: int = 1,
    dilation: int = 1,
    joined: torch.Tensor | None = None,
) -> torch.Tensor:
    """Several such convolutions of one kernel size as one: what a call costs is paid once.

    Args:
        xs: B C H W each, in channels_last, or one that holds them all, channels after channels.
        weights: C 1 K K each.
        stride: Of all.
        dilation: Of all; maps keep their size but for the stride.
        joined: The inputs, channels after channels, where somebody has put them together; it is read, and
            not kept.

    Returns:
        What they make, channels after channels.
    """
    out_BCHW: torch.Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
        stride, dilation, len(xs), joined, *xs, *weights
    )
    return out_BCHW


def _is_split(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int, dilation: int) -> bool:
    """Whether the kernel's gradient is put together from columns."""
    size = weight_C1KK.shape[-1]
    is_plain = stride == dilation == 1 and size > _WIDEST and x_BCHW.shape[3] > size // 2
    return is_plain and torch.backends.cpu.get_cpu_capability() == "AVX2"


def _is_in_training(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x_BCHW.device.type == "cpu"
        and torch.is_grad_enabled()
        and x_BCHW.dtype == weight_C1KK.dtype
        and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )


def _plain(
    x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int = 1, dilation: int = 1
) -> torch.Tensor:
    padding, groups = weight_C1KK.shape[-1] // 2 * dilation, len(weight_C1KK)
    return functional.conv2d(x_BCHW, weight_C1KK, None, stride, padding, dilation, groups)


def _joined(parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _split(whole: torch.Tensor | None, num: int, dim: int) -> Sequence[torch.Tensor | None]:
    """Equal parts of what there is."""
    return [None] * num if whole is None else whole.chunk(num, dim)


@final
class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        stride: int,
        dilation: int,
        num_inputs: int,
        joined_BCHW: torch.Tensor | None,
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(*tensors)
        ctx.stride, ctx.dilation, ctx.num_inputs = stride, dilation, num_inputs
        x_BCHW = _joined(tensors[:num_inputs], 1) if joined_BCHW is None else joined_BCHW
        return _plain(x_BCHW, _joined(tensors[num_inputs:], 0), stride, dilation)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        num, stride, dilation, saved = ctx.num_inputs, ctx.stride, ctx.dilation, ctx.saved_tensors
        want_inputs, want_weights = (
            any(ctx.needs_input_grad[4 : 4 + num]),
            any(ctx.needs_input_grad[4 + num :]),
        )
        xs, weight_C1KK = saved[:num], _joined(saved[num:], 0)
        of_x, of_weight = _all_gradients(
            grad_BCHW, xs, weight_C1KK, want_inputs, want_weights, stride, dilation
        )
        return None, None, None, None, *_split(of_x, num, 1), *_split(of_weight, len(saved) - num, 0)


@final
class _Dilated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x_BCHW, weight_C1KK)
        return PHASES.restore(_plain(PHASES.arrange(x_BCHW), weight_C1KK))

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x_BCHW, weight_C1KK), (want_input, want_weight) = ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():
            padding = [weight_C1KK.shape[-1] - 1] * 2
            wanted = [want_input, want_weight, False]
            of_x, of_weight, _ = _gradients(grad_BCHW, x_BCHW, weight_C1KK, padding, wanted, dilation=2)
            return of_x, of_weight
        grad_BCHW, x_BCHW = PHASES.arrange(grad_BCHW), PHASES.arrange(x_BCHW)
        of_x, of_weight = _all_gradients(grad_BCHW, [x_BCHW], weight_C1KK, want_input, want_weight, 1, 1)
        return None if of_x is None else PHASES.restore(of_x), of_weight


def _all_gradients(
    grad_BCHW: torch.Tensor,
    xs: Sequence[torch.Tensor],
    weight_C1KK: torch.Tensor,
    want_inputs: bool,
    want_weights: bool,
    stride: int,
    dilation: int,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Of the inputs, which `xs` make up, and of the weight; None where they are not wanted."""
    padding = [weight_C1KK.shape[-1] // 2 * dilation] * 2
    of_x, of_weight = None, None
    is_split = want_weights and _is_split(xs[0], weight_C1KK, stride, dilation)
    if torch.is_grad_enabled() or stride > 1 or (want_weights and not is_split):
        wanted = [want_inputs, want_weights, False]
        x_BCHW = _joined(xs, 1)  # again: to keep it would double what is kept
        of_x, of_weight, _ = _gradients(grad_BCHW, x_BCHW, weight_C1KK, padding, wanted, stride, dilation)
    else:
        if want_inputs:  # no value of the input is read
            wanted = [True, False, False]
            of_x = _gradients(grad_BCHW, grad_BCHW, weight_C1KK, padding, wanted, 1, dilation)[0]
        if is_split:
            of_weight = _gradient_of_weight(grad_BCHW, xs, weight_C1KK)
    return of_x, of_weight


def _gradient_of_weight(
    grad_BCHW: torch.Tensor, xs: Sequence[torch.Tensor], weight_C1KK: torch.Tensor
) -> Any:
    """Put together from columns of a kernel such as `_is_split` says."""
    size, height = weight_C1KK.shape[-1], xs[0].shape[2]
    padding, wanted = size // 2, [False, True, False]
    rows = 0 if height >= size else padding  # the fast kernels want maps as high as the kernel
    if size < 2 * _WIDEST:
        return _gradient_of_halves(grad_BCHW, xs, weight_C1KK, rows)
    x_BCHW, parts = _joined(xs, 1), []
    for first, count in _columns(size):
        left, right = padding - first, first + count - 1 - padding
        if left == right and not rows:
            read_BCHW, pads = x_BCHW, [padding, left]
        else:
            read_BCHW = functional.pad(x_BCHW, (left, right, rows, rows))
            pads = [padding - rows, 0]
        parts.append(_gradients(grad_BCHW, read_BCHW, weight_C1KK[..., :count], pads, wanted)[1])
    return torch.cat(parts, dim=3)


def _gradient_of_halves(
    grad_BCHW: torch.Tensor, xs: Sequence[torch.Tensor], weight_C1KK: torch.Tensor, rows: int
) -> torch.Tensor:
    """From the columns up to the middle one, and from it on.

    The input lies in memory with zeros behind each row and before the first, so that one half reads it
    from its first number on, and the other reads the same numbers from some zeros before.

    Args:
        grad_BCHW: Of the output.
        xs: Make up the input.
        weight_C1KK: Of the convolution.
        rows: Zeros above and below.
    """
    (b, _, height, width), num_channels = xs[0].shape, len(weight_C1KK)
    half = weight_C1KK.shape[-1] // 2
    high, wide = height + 2 * rows, width + half
    memory = grad_BCHW.new_empty((b * high * wide + half) * num_channels)
    memory[: half * num_channels].zero_()
    right_BHWC = memory[half * num_channels :].view(b, high, wide, num_channels)
    left_BHWC = memory[: -half * num_channels].view(b, high, wide, num_channels)
    right_BHWC[:, :, width:].zero_()
    if rows:
        right_BHWC[:, :rows].zero_()
        right_BHWC[:, -rows:].zero_()
    torch.cat([x.permute(0, 2, 3, 1) for x in xs], 3, out=right_BHWC[:, rows : rows + height, :width])
    up_to, on = (
        _gradients(
            grad_BCHW,
            read_BHWC.permute(0, 3, 1, 2),
            weight_C1KK[..., : half + 1],
            [half - rows, 0],
            [False, True, False],
        )[1]
        for read_BHWC in (left_BHWC, right_BHWC)
    )
    return torch.cat([up_to, on[..., 1:]], dim=3)


def _columns(size: int) -> Iterator[tuple[int, int]]:
    """First column and number of columns of each part of a kernel; the middle part is in the middle."""
    num_parts = -(-size // _WIDEST)
    ends = [round(size * part / num_parts) for part in range(num_parts + 1)]
    return ((first, last - first) for first, last in pairwise(ends))


def _gradients(
    grad_BCHW: torch.Tensor,
    x_BCHW: torch.Tensor,
    weight_C1KK: torch.Tensor,
    padding: list[int],
    wanted: list[bool],
    stride: int = 1,
    dilation: int = 1,
) -> Any:
    """Of input, weight and bias, as PyTorch computes them; None where they are not wanted."""
    return torch.ops.aten.convolution_backward.default(
        grad_BCHW,
        x_BCHW,
        weight_C1KK,
        None,
        [stride] * 2,
        padding,
        [dilation] * 2,
        False,
        [0, 0],
        len(weight_C1KK),
        wanted,
    )
