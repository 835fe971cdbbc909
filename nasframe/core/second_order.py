"""Gradients that can be differentiated once more, and no further."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch

from nasframe.errors import UnsupportedError

Gradients = tuple[torch.Tensor | None, ...]


def last_derivative(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """Refuse to make a graph of a backward pass, where it would leave out what the pass depends on.

    PyTorch's ``once_differentiable`` lets ``torch.autograd.grad`` leave that out without a word.

    Args:
        backward: Of a ``torch.autograd.Function``.
    """

    @wraps(backward)
    def without_graph(ctx: Any, *gradients: Any) -> Gradients:
        if torch.is_grad_enabled():
            raise UnsupportedError(
                "third derivatives are asked for (`create_graph` in a backward pass through a backward one), "
                "but nasframe's own layers have two; leave `create_graph` out of the last pass"
            )
        return backward(ctx, *gradients)

    return without_graph


class SecondDerivatives(NamedTuple):
    """Gradients of the product of a batch norm's gradients with directions, see `second_derivatives`.

    Attributes:
        of_x: In the inputs.
        of_along: In their direction: the gradient of the inputs.
        of_grad: In the gradient of the outputs.
        of_scale: In what the norm is multiplied with, for each channel.
    """

    of_x: torch.Tensor
    of_along: torch.Tensor
    of_grad: torch.Tensor
    of_scale: torch.Tensor


def second_derivatives(
    x: torch.Tensor,
    factor: torch.Tensor,
    scale: torch.Tensor,
    grad: torch.Tensor,
    along: torch.Tensor,
    *,
    over: tuple[int, ...],
    along_scale: torch.Tensor | None = None,
) -> SecondDerivatives:
    """Differentiate a batch norm twice.

    Let y = s·f·x, where x is centred, f = 1 / deviation, and g the gradient of y. The gradients of x
    and s are s·f·(g − mean(g) − f²·x·mean(g·x)) and f·⟨g, x⟩. Their product with directions a of x and
    c of s is differentiated in x, a, g and s; ∂f/∂x = −f³·x / N.

    Args:
        x: Centred over `over`.
        factor: f, for each channel.
        scale: s·f, for each channel.
        grad: g.
        along: a.
        over: Dimensions of the N values of a channel.
        along_scale: c.
    """

    def mean(values: torch.Tensor) -> torch.Tensor:
        return values.mean(over, keepdim=True)

    square, mean_g, mean_a = factor.square(), mean(grad), mean(along)
    buffer = grad * x
    g_x = mean(buffer)
    a_x = mean(torch.mul(along, x, out=buffer))
    covariance = mean(torch.mul(along, grad, out=buffer)) - mean_g * mean_a
    of_a, of_g, of_x = -square * scale * g_x, -square * scale * a_x, 3 * square * a_x * g_x - covariance
    of_x = square * scale * of_x
    if along_scale is not None:
        of_g = of_g + along_scale * factor
        of_x = of_x - along_scale * factor * square * g_x

    def combined(
        constant: torch.Tensor, *terms: tuple[torch.Tensor, torch.Tensor], out: torch.Tensor | None = None
    ) -> torch.Tensor:
        (first, of_first), *others = terms
        total = torch.addcmul(constant, first, of_first, out=out)
        for each, factor in others:
            total.addcmul_(each, factor)
        return total

    count = x.numel() // mean_a.numel()
    return SecondDerivatives(
        of_x=combined(-of_a * mean_a - of_g * mean_g, (x, of_x), (along, of_a), (grad, of_g), out=buffer),
        of_along=combined(-scale * mean_g, (x, of_a), (grad, scale)),
        of_grad=combined(-scale * mean_a, (x, of_g), (along, scale)),
        of_scale=count * factor * (covariance - square * a_x * g_x),
    )
