"""Weighted sums of maps, such as what skip connections and poolings add to a node."""

from collections.abc import Sequence
from typing import Any, final

import torch


def add_weighted(
    total_BCHW: torch.Tensor, weights: Sequence[torch.Tensor], terms: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Add terms, each times its weight, to a total.

    Args:
        total_BCHW: Is overwritten, so what made it must not have saved it; in channels_last.
        weights: T scalars.
        terms: T of B C H W.
    """
    out_BCHW: torch.Tensor = _AddWeighted.apply(  # type: ignore[no-untyped-call]
        total_BCHW, torch.stack(list(weights)), *terms
    )
    return out_BCHW


def _flat(x_BCHW: torch.Tensor) -> torch.Tensor:
    """All numbers in the order of channels_last; a view where they lie so."""
    return x_BCHW.permute(0, 2, 3, 1).reshape(-1)


@final
class _AddWeighted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, total_BCHW: torch.Tensor, weight_T: torch.Tensor, *terms: torch.Tensor
    ) -> torch.Tensor:
        for weight, term_BCHW in zip(weight_T.unbind(), terms, strict=True):
            total_BCHW.addcmul_(term_BCHW, weight)
        ctx.mark_dirty(total_BCHW)
        ctx.save_for_backward(weight_T, *terms)
        return total_BCHW

    @staticmethod
    def backward(ctx: Any, grad_BCHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight_T, *terms = ctx.saved_tensors
        of_terms = [grad_BCHW * weight for weight in weight_T.unbind()]
        if torch.is_grad_enabled():
            of_weight_T = torch.stack([(grad_BCHW * term_BCHW).sum() for term_BCHW in terms])
        else:
            grad_N = _flat(grad_BCHW)
            of_weight_T = torch.stack([torch.dot(grad_N, _flat(term_BCHW)) for term_BCHW in terms])
        return grad_BCHW, of_weight_T, *of_terms
