"""Batch norms in training, computed together with the 1x1 convolution before or after them.

The statistics of a 1x1 convolution's output follow from mean and covariance of its input. Where it
widens, these are few numbers: the batch norm after it becomes a scale of its kernel, and its gradient
a convolution of the narrow input. Where it narrows, what it reads is computed again for its gradient.
So each wide map of a block is kept once, not twice, and is passed over half as often.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core import ExactBatchNorm2d, is_watched
from nasframe.core.batch_norm import Statistics, track

_OVER: Final = (0, 2, 3)  # all dimensions but the channels
_ATEN: Final = torch.ops.aten
_LINE: Final = 16  # numbers of 4 bytes in a cache line
_CEILINGS: Final[Mapping[type[nn.Module], float]] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}


def is_joined(layers: Sequence[nn.Module]) -> bool:
    """Whether a `conv_bn` is as built, its norm in training, and nobody watches any of it."""
    _, norm, *activations = layers
    return (
        not any(map(is_watched, layers))
        and isinstance(norm, nn.BatchNorm2d)
        and type(norm) in (nn.BatchNorm2d, ExactBatchNorm2d)
        and norm.training
        and norm.momentum is not None
        and all(type(each) in _CEILINGS for each in activations)
    )


@torch.no_grad()
def moments(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Covariance of the channels, with bias, and their means in a last column: C x (C + 1)."""
    mean_C = x_BCHW.mean(_OVER)
    rows_NC = (x_BCHW - _wide(mean_C)).permute(0, 2, 3, 1).reshape(-1, len(mean_C))
    return torch.cat([rows_NC.T @ rows_NC / len(rows_NC), mean_C[:, None]], dim=1)


def widen(
    x_BCHW: torch.Tensor,
    moments_CC1: torch.Tensor,
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    activation: nn.Module,
) -> torch.Tensor:
    """A 1x1 convolution, a batch norm and an activation, such as `is_joined` says.

    Args:
        x_BCHW: Input of the convolution.
        moments_CC1: Its `moments`.
        conv: The convolution.
        norm: Its running statistics move.
        activation: ReLU or ReLU6.
    """
    seen: list[Statistics] = []
    out_BCHW: torch.Tensor = _Widen.apply(  # type: ignore[no-untyped-call]
        x_BCHW, conv.weight, norm.weight, norm.bias, moments_CC1, norm, _CEILINGS[type(activation)], seen
    )
    track(seen)
    return out_BCHW


def narrow(
    x_BCHW: torch.Tensor, norm: nn.BatchNorm2d, activation: nn.Module, conv: nn.Conv2d
) -> torch.Tensor:
    """A batch norm, an activation and a 1x1 convolution, such as `is_joined` says.

    Args:
        x_BCHW: Input of the batch norm; overwritten where nothing needs a gradient, so it must be
            nobody else's.
        norm: Its running statistics move.
        activation: ReLU or ReLU6.
        conv: The convolution.
    """
    seen: list[Statistics] = []
    out_BCHW: torch.Tensor = _Narrow.apply(  # type: ignore[no-untyped-call]
        x_BCHW, conv.weight, norm.weight, norm.bias, norm, _CEILINGS[type(activation)], seen
    )
    track(seen)
    return out_BCHW


def statistics(x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance, with bias, of each channel of a map in channels_last.

    PyTorch's threads keep a row of sums each, and wait for each other where two rows share a cache line: so
    many pixels are taken for one of as many times the channels as fill whole lines.
    """
    num_channels = x_BCHW.shape[1]
    num_pixels = _LINE // math.gcd(_LINE, num_channels)
    if num_pixels == 1 or x_BCHW.numel() % (num_pixels * num_channels):
        return torch.batch_norm_update_stats(x_BCHW, None, None, 0.0)
    rows_NX = x_BCHW.permute(0, 2, 3, 1).reshape(-1, num_pixels * num_channels)
    mean_PC, var_PC = (
        each_X.view(-1, num_channels) for each_X in torch.batch_norm_update_stats(rows_NX, None, None, 0.0)
    )
    mean_C = mean_PC.mean(0)
    return mean_C, (mean_PC - mean_C).square_().add_(var_PC).mean(0)


def _wide(x_C: torch.Tensor) -> torch.Tensor:
    """In a shape that is multiplied with B C H W."""
    return x_C[:, None, None]


def _scale_and_shift(
    mean_C: torch.Tensor, factor_C: torch.Tensor, weight_C: torch.Tensor | None, bias_C: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a batch norm multiplies with, and what it adds; `factor` is 1 / deviation."""
    scale_C = factor_C if weight_C is None else weight_C * factor_C
    shift_C = -mean_C * scale_C if bias_C is None else torch.addcmul(bias_C, mean_C, scale_C, value=-1)
    return scale_C, shift_C


def _again(
    output: torch.Tensor, inputs: tuple[torch.Tensor | None, ...], grad_BCHW: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Gradients that can be differentiated, of what PyTorch's own operations made of the inputs."""
    wanted = [each for each in inputs if each is not None and each.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, grad_BCHW, create_graph=True))
    return tuple(next(found) if each is not None and each.requires_grad else None for each in inputs)


def _conv_gradients(
    grad_BCHW: torch.Tensor, x_BCHW: torch.Tensor, weight: torch.Tensor, wanted: tuple[bool, bool]
) -> Any:
    """Of a 1x1 convolution's input and weight."""
    no_bias, zeros, ones = None, [0, 0], [1, 1]
    return _ATEN.convolution_backward(
        grad_BCHW, x_BCHW, weight, no_bias, ones, zeros, ones, False, zeros, 1, [*wanted, False]
    )[:2]


@final
class _Widen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: torch.Tensor,
        weight_MC11: torch.Tensor,
        gamma_M: torch.Tensor | None,
        beta_M: torch.Tensor | None,
        moments_CC1: torch.Tensor,
        norm: nn.BatchNorm2d,
        ceiling: float,
        seen: list[Statistics],
    ) -> torch.Tensor:
        weight_MC = weight_MC11.flatten(1)
        moved_MC1 = weight_MC @ moments_CC1
        mean_M = moved_MC1[:, -1]
        var_M = (moved_MC1[:, :-1] * weight_MC).sum(1).clamp_(min=0)
        seen.append(Statistics(norm, mean_M, var_M, x_BCHW.numel() // x_BCHW.shape[1]))
        factor_M = (var_M + norm.eps).rsqrt_()
        scale_M, shift_M = _scale_and_shift(mean_M, factor_M, gamma_M, beta_M)
        out_BMHW = functional.conv2d(x_BCHW, weight_MC11 * scale_M.view(-1, 1, 1, 1), shift_M)
        out_BMHW.clamp_(0, ceiling)
        ctx.save_for_backward(x_BCHW, weight_MC11, gamma_M, beta_M, moments_CC1, factor_M, out_BMHW)
        ctx.eps, ctx.ceiling = norm.eps, ceiling
        return out_BMHW

    @staticmethod
    def backward(ctx: Any, grad_BMHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BCHW, weight_MC11, gamma_M, beta_M, moments_CC1, factor_M, out_BMHW = ctx.saved_tensors
        inputs = x_BCHW, weight_MC11, gamma_M, beta_M
        if torch.is_grad_enabled():
            out_BMHW = functional.conv2d(x_BCHW, weight_MC11)
            out_BMHW = functional.batch_norm(out_BMHW, None, None, gamma_M, beta_M, True, eps=ctx.eps)
            out_BMHW = functional.hardtanh(out_BMHW, 0.0, ctx.ceiling)
            return *_again(out_BMHW, inputs, grad_BMHW), None, None, None, None
        weight_MC, covariance_CC, mean_C = weight_MC11.flatten(1), moments_CC1[:, :-1], moments_CC1[:, -1]
        num_values = x_BCHW.numel() // len(mean_C)
        scale_M = factor_M if gamma_M is None else gamma_M * factor_M
        grad_BMHW = _ATEN.hardtanh_backward(grad_BMHW, out_BMHW, 0.0, ctx.ceiling)
        centred_BCHW, total_M = x_BCHW - _wide(mean_C), grad_BMHW.sum(_OVER)
        scaled_MC11 = weight_MC11 * scale_M.view(-1, 1, 1, 1)
        of_x, product = _conv_gradients(grad_BMHW, centred_BCHW, scaled_MC11, (ctx.needs_input_grad[0], True))
        product_MC = product.flatten(1)
        slope_M = factor_M * (weight_MC * product_MC).sum(1)
        if ctx.needs_input_grad[0]:
            rest_M = scale_M * factor_M * slope_M / -num_values
            rest_CC = weight_MC.T @ (rest_M[:, None] * weight_MC)
            constant_C = (scale_M * total_M / -num_values) @ weight_MC
            of_x += functional.conv2d(centred_BCHW, rest_CC[..., None, None], constant_C)
        of_weight = None
        if ctx.needs_input_grad[1]:
            seen_MC = (slope_M * factor_M)[:, None] * (weight_MC @ covariance_CC)
            of_weight = (scale_M[:, None] * (product_MC - seen_MC)).view_as(weight_MC11)
        of_gamma = slope_M if ctx.needs_input_grad[2] else None
        of_beta = total_M if ctx.needs_input_grad[3] else None
        return of_x, of_weight, of_gamma, of_beta, None, None, None, None


@final
class _Narrow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BMHW: torch.Tensor,
        weight_CM11: torch.Tensor,
        gamma_M: torch.Tensor | None,
        beta_M: torch.Tensor | None,
        norm: nn.BatchNorm2d,
        ceiling: float,
        seen: list[Statistics],
    ) -> torch.Tensor:
        mean_M, var_M = statistics(x_BMHW)
        seen.append(Statistics(norm, mean_M, var_M, x_BMHW.numel() // len(mean_M)))
        factor_M = (var_M + norm.eps).rsqrt_()
        ctx.save_for_backward(x_BMHW, weight_CM11, gamma_M, beta_M, mean_M, factor_M)
        ctx.eps, ctx.ceiling = norm.eps, ceiling
        out_BMHW = None if any(ctx.needs_input_grad) else x_BMHW
        read_BMHW = _activated(ctx, mean_M, factor_M, x_BMHW, gamma_M, beta_M, out_BMHW)
        return functional.conv2d(read_BMHW, weight_CM11)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BMHW, weight_CM11, gamma_M, beta_M, mean_M, factor_M = ctx.saved_tensors
        if torch.is_grad_enabled():
            out = functional.batch_norm(x_BMHW, None, None, gamma_M, beta_M, True, eps=ctx.eps)
            out = functional.conv2d(functional.hardtanh(out, 0.0, ctx.ceiling), weight_CM11)
            return *_again(out, (x_BMHW, weight_CM11, gamma_M, beta_M), grad_BCHW), None, None, None
        read_BMHW = _activated(ctx, mean_M, factor_M, x_BMHW, gamma_M, beta_M)
        of_read, of_weight = _conv_gradients(
            grad_BCHW, read_BMHW, weight_CM11, (True, ctx.needs_input_grad[1])
        )
        of_read = _ATEN.hardtanh_backward(of_read, read_BMHW, 0.0, ctx.ceiling)
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[2], ctx.needs_input_grad[3]]
        of_x, of_gamma, of_beta = _ATEN.native_batch_norm_backward(
            of_read, x_BMHW, gamma_M, None, None, mean_M, factor_M, True, ctx.eps, wanted
        )
        return of_x, of_weight, of_gamma, of_beta, None, None, None


def _activated(
    ctx: Any,
    mean_M: torch.Tensor,
    factor_M: torch.Tensor,
    x_BMHW: torch.Tensor,
    gamma_M: torch.Tensor | None,
    beta_M: torch.Tensor | None,
    out_BMHW: torch.Tensor | None = None,
) -> torch.Tensor:
    scale_M, shift_M = _scale_and_shift(mean_M, factor_M, gamma_M, beta_M)
    return torch.addcmul(_wide(shift_M), x_BMHW, _wide(scale_M), out=out_BMHW).clamp_(0, ctx.ceiling)
