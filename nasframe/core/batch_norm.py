"""Batch norms in training, computed together with what follows them.

Statistics are sums of centred values, so that they are as exact in channels_last as elsewhere: PyTorch's
own kernel for that memory format loses a digit on the CPU. Inputs are centred in place, while they are
in the cache, and kept instead of what they are normalized to.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core.second_order import last_derivative, second_derivatives

_OVER: Final = (0, 2, 3)  # all dimensions but the channels


class Statistics(NamedTuple):
    """What a batch norm saw.

    Attributes:
        norm: Has a momentum.
        mean_C: Of the batch.
        var_C: Of the batch, with bias.
        num_values: Of each channel, B · H · W.
    """

    norm: nn.modules.batchnorm._BatchNorm
    mean_C: torch.Tensor
    var_C: torch.Tensor
    num_values: int


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
    x_BCHW: torch.Tensor, norm: nn.BatchNorm2d, *, relu: bool = False
) -> tuple[torch.Tensor, Statistics]:
    """What a batch norm without affine parameters returns in training, and what `track` wants to know.

    Args:
        x_BCHW: Is overwritten, so it must be nobody else's; what made it must not have saved it.
        norm: Its running statistics do not move.
        relu: Whether a ReLU follows.
    """
    seen: list[Statistics] = []
    out_BCHW: torch.Tensor = _Norm.apply(x_BCHW, norm, relu, seen)  # type: ignore[no-untyped-call]
    return out_BCHW, seen[0]


@final
class ExactBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose statistics are as exact in channels_last as elsewhere, on the CPU too.

    A finite difference of gradients (DARTS's second order) multiplies what they are wrong by.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        is_inexact = self.training and input.is_contiguous(memory_format=torch.channels_last)
        if not is_inexact or self.momentum is None or not can_normalize(input):
            return super().forward(input)
        out_BCHW, seen = normalize(input.clone(), self)
        track([seen])
        if self.weight is None:
            return out_BCHW
        return torch.addcmul(_wide(self.bias), out_BCHW, _wide(self.weight))


def reads_no_statistics(module: nn.Module) -> bool:
    """Whether it is a batch norm in training, which needs no statistics but those of its batch."""
    return module.training and type(module) in _NORMS


@torch.no_grad()
def track(seen: Iterable[Statistics]) -> None:
    """Move running statistics as batch norms with a momentum do, the variance without bias."""
    moved: dict[float, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    counts: list[torch.Tensor] = []
    for norm, mean_C, var_C, num_values in seen:
        if norm.running_mean is None or norm.running_var is None:
            continue
        assert norm.momentum is not None
        running, batch = moved.setdefault(norm.momentum, ([], []))
        running += [norm.running_mean, norm.running_var]
        batch += [mean_C, var_C * (num_values / (num_values - 1))]
        if norm.num_batches_tracked is not None:
            counts.append(norm.num_batches_tracked)
    for momentum, (running, batch) in moved.items():
        torch._foreach_lerp_(running, batch, momentum)
    if counts:
        torch._foreach_add_(counts, 1)


_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, ExactBatchNorm2d)


def _wide(x_C: torch.Tensor) -> torch.Tensor:
    """In a shape that is multiplied with B C H W."""
    return x_C.view(1, -1, 1, 1)


def _centre(x_BCHW: torch.Tensor, norm: nn.BatchNorm2d) -> tuple[Statistics, torch.Tensor]:
    """Subtract the channels' means in place; return the statistics, and a buffer to be used again."""
    if x_BCHW.numel() == x_BCHW.shape[1]:
        functional.batch_norm(x_BCHW, None, None, training=True)  # refuses a single value a channel
    mean_C = x_BCHW.mean(_OVER)
    squares_BCHW = x_BCHW.sub_(_wide(mean_C)).square()
    return Statistics(norm, mean_C, squares_BCHW.mean(_OVER), x_BCHW.numel() // len(mean_C)), squares_BCHW


def _where_positive(grad_BCHW: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
    """The gradient of a ReLU."""
    return torch.ops.aten.threshold_backward.default(grad_BCHW, x_BCHW, 0)  # type: ignore[no-any-return]


def _gradient(
    x_BCHW: torch.Tensor, factor_C: torch.Tensor, grad_BCHW: torch.Tensor, relu: bool
) -> torch.Tensor:
    """Of a centred input that is multiplied by `factor` = 1 / deviation, then by a ReLU on demand."""
    if relu:
        grad_BCHW = _where_positive(grad_BCHW, x_BCHW)
    product_BCHW = grad_BCHW * x_BCHW
    of_input = _wide((factor_C**3).mul_(product_BCHW.mean(_OVER)))
    constant = _wide(grad_BCHW.mean(_OVER).mul_(factor_C))
    torch.mul(grad_BCHW, _wide(factor_C), out=product_BCHW)  # in memory that is in the cache
    return product_BCHW.sub_(constant).addcmul_(x_BCHW, of_input, value=-1)


@final
class _Norm(torch.autograd.Function):
    """A batch norm, and a ReLU on demand."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: torch.Tensor, norm: nn.BatchNorm2d, relu: bool, seen: list[Statistics]
    ) -> torch.Tensor:
        statistics, buffer_BCHW = _centre(x_BCHW, norm)
        seen.append(statistics)
        factor_C = (statistics.var_C + norm.eps).rsqrt_()
        out_BCHW = torch.mul(x_BCHW, _wide(factor_C), out=buffer_BCHW)
        if relu:
            out_BCHW.relu_()
        ctx.save_for_backward(x_BCHW, factor_C)
        ctx.relu = relu
        return out_BCHW

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BCHW, factor_C = ctx.saved_tensors
        gradient = _NormGradient.apply if torch.is_grad_enabled() else _gradient
        return gradient(x_BCHW, factor_C, grad_BCHW, ctx.relu), None, None, None


@final
class _NormGradient(torch.autograd.Function):
    """`_gradient`, which can be differentiated."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: torch.Tensor, factor_C: torch.Tensor, grad_BCHW: torch.Tensor, relu: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(x_BCHW, factor_C, grad_BCHW)
        ctx.relu = relu
        return _gradient(x_BCHW, factor_C, grad_BCHW, relu)

    @staticmethod
    @last_derivative
    def backward(ctx: Any, along_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BCHW, factor_C, grad_BCHW = ctx.saved_tensors
        if ctx.relu:
            grad_BCHW = _where_positive(grad_BCHW, x_BCHW)
        factor = _wide(factor_C)
        found = second_derivatives(x_BCHW, factor, factor, grad_BCHW, along_BCHW, over=_OVER)
        of_grad_BCHW = _where_positive(found.of_grad, x_BCHW) if ctx.relu else found.of_grad
        return found.of_x, None, of_grad_BCHW, None
