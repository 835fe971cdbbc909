"""Batch norms in training, computed together with what follows them.

Statistics are sums of centred values, so that they are as exact in channels_last as elsewhere: PyTorch's
own kernel for that memory format loses a digit on the CPU. Inputs are centred in place, while they are
in the cache, and kept instead of what they are normalized to. Where a graph of the gradients is asked
for (``create_graph``), it is that of PyTorch's own batch norm, which no shift of its input changes.
"""

from typing import Any, Final, final

import torch
from torch import nn
from torch.nn import functional

_OVER: Final = (0, 2, 3)  # all dimensions but the channels


def can_normalize(x_BCHW: torch.Tensor) -> bool:
    """Whether these functions take such an input now: on the CPU, in its own precision."""
    return (
        x_BCHW.device.type == "cpu"
        and x_BCHW.dtype in (torch.float32, torch.float64)
        and x_BCHW.dim() == 4
        and x_BCHW.numel() > x_BCHW.shape[1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def normalize(
    x_BCHW: torch.Tensor, eps: float, *, relu: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a batch norm without affine parameters returns in training, and the statistics for `track`.

    Args:
        x_BCHW: Is overwritten, so it must be nobody else's; what made it must not have saved it.
        eps: Added to the variance.
        relu: Whether a ReLU follows.

    Returns:
        Output B C H W, means C, variances C (with bias); the statistics without gradients.
    """
    out_BCHW, mean_C, var_C = _Norm.apply(x_BCHW, eps, relu)  # type: ignore[no-untyped-call]
    return out_BCHW, mean_C, var_C


def add_normalized(
    total_BCHW: torch.Tensor | None, weight: torch.Tensor, x_BCHW: torch.Tensor, norm: nn.BatchNorm2d
) -> torch.Tensor:
    """`total_BCHW` (zero if None) plus `weight` times what a batch norm returns in training.

    Args:
        total_BCHW: Is overwritten.
        weight: A differentiable scalar.
        x_BCHW: Is overwritten, as in `normalize`.
        norm: Without affine parameters; its running statistics move.
    """
    out_BCHW: torch.Tensor = _AddNormalized.apply(total_BCHW, weight, x_BCHW, norm)  # type: ignore[no-untyped-call]
    return out_BCHW


@torch.no_grad()
def track(norm: nn.BatchNorm2d, mean_C: torch.Tensor, var_C: torch.Tensor, count: int) -> None:
    """Move running statistics as a batch norm with a momentum does.

    Args:
        norm: Has a momentum.
        mean_C: Of the batch.
        var_C: Of the batch, with bias; the running one is without.
        count: Values of each channel, see `count_of`.
    """
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    assert norm.momentum is not None
    norm.running_mean.lerp_(mean_C, norm.momentum)
    norm.running_var.lerp_(var_C * (count / (count - 1)), norm.momentum)
    norm.num_batches_tracked.add_(1)


def count_of(x_BCHW: torch.Tensor) -> int:
    """Number of values of each channel, B · H · W."""
    return x_BCHW.numel() // x_BCHW.shape[1]


def _wide(x_C: torch.Tensor) -> torch.Tensor:
    """In a shape that is multiplied with B C H W."""
    return x_C.view(1, -1, 1, 1)


def _centre(x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Subtract the channels' means in place; return these, the variances, and a buffer to be used again."""
    count = count_of(x_BCHW)
    mean_C = x_BCHW.sum(_OVER).div_(count)
    squares_BCHW = x_BCHW.sub_(_wide(mean_C)).square()
    return mean_C, squares_BCHW.sum(_OVER).div_(count), squares_BCHW


def _gradient(
    x_BCHW: torch.Tensor, grad_BCHW: torch.Tensor, factor_C: torch.Tensor, scale_C: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a centred input that was multiplied by `scale`, a weight times `factor` = 1 / deviation.

    Returns:
        The gradient B C H W, and the product of input and gradient summed over all but the channels, C.
    """
    count = count_of(grad_BCHW)
    product_BCHW = grad_BCHW * x_BCHW
    slope_C = product_BCHW.sum(_OVER)
    constant = _wide(grad_BCHW.sum(_OVER).mul_(scale_C).div_(-count))
    of_input = _wide(factor_C.square().mul_(scale_C).mul_(slope_C).div_(-count))
    torch.addcmul(constant, grad_BCHW, _wide(scale_C), out=product_BCHW)  # in memory that is in the cache
    return product_BCHW.addcmul_(x_BCHW, of_input), slope_C


@final
class _Norm(torch.autograd.Function):
    """A batch norm, and a ReLU on demand: (output, mean, variance)."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: torch.Tensor, eps: float, relu: bool) -> tuple[torch.Tensor, ...]:
        mean_C, var_C, buffer_BCHW = _centre(x_BCHW)
        factor_C = (var_C + eps).rsqrt_()
        out_BCHW = torch.mul(x_BCHW, _wide(factor_C), out=buffer_BCHW)
        if relu:
            out_BCHW.relu_()
        ctx.save_for_backward(x_BCHW, factor_C)
        ctx.eps, ctx.relu = eps, relu
        ctx.mark_non_differentiable(mean_C, var_C)
        return out_BCHW, mean_C, var_C

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        x_BCHW, factor_C = ctx.saved_tensors
        if torch.is_grad_enabled():
            out_BCHW = functional.batch_norm(x_BCHW, None, None, training=True, eps=ctx.eps)
            out_BCHW = functional.relu(out_BCHW) if ctx.relu else out_BCHW
            return *torch.autograd.grad(out_BCHW, [x_BCHW], grad_BCHW, create_graph=True), None, None
        if ctx.relu:
            grad_BCHW = torch.ops.aten.threshold_backward(grad_BCHW, x_BCHW, 0)
        return _gradient(x_BCHW, grad_BCHW, factor_C, factor_C)[0], None, None


@final
class _AddNormalized(torch.autograd.Function):
    """A total plus a weight times a batch norm."""

    @staticmethod
    def forward(
        ctx: Any,
        total_BCHW: torch.Tensor | None,
        weight: torch.Tensor,
        x_BCHW: torch.Tensor,
        norm: nn.BatchNorm2d,
    ) -> torch.Tensor:
        mean_C, var_C, buffer_BCHW = _centre(x_BCHW)
        track(norm, mean_C, var_C, count_of(x_BCHW))
        factor_C = (var_C + norm.eps).rsqrt_()
        ctx.save_for_backward(weight, x_BCHW, factor_C)
        ctx.eps, ctx.is_first = norm.eps, total_BCHW is None
        scale = _wide(weight * factor_C)
        if total_BCHW is None:
            return torch.mul(x_BCHW, scale, out=buffer_BCHW)
        ctx.mark_dirty(total_BCHW)
        return total_BCHW.addcmul_(x_BCHW, scale)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, x_BCHW, factor_C = ctx.saved_tensors
        of_total = None if ctx.is_first else grad_BCHW
        if torch.is_grad_enabled():
            plain = functional.batch_norm(x_BCHW, None, None, training=True, eps=ctx.eps)
            inputs = [each for each in (weight, x_BCHW) if each.requires_grad]
            found = iter(torch.autograd.grad(weight * plain, inputs, grad_BCHW, create_graph=True))
            gradients = (next(found) if each.requires_grad else None for each in (weight, x_BCHW))
            return of_total, *gradients, None
        of_x, slope_C = _gradient(x_BCHW, grad_BCHW, factor_C, weight * factor_C)
        return of_total, slope_C.dot(factor_C), of_x, None
