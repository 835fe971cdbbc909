"""Masks of what training drops."""

from collections.abc import Sequence

import torch


def drawn_mask(x: torch.Tensor, shape: Sequence[int], keep: float) -> torch.Tensor:
    """Ones with the chance `keep`, zeros otherwise, of the type of `x`.

    A compiled pass reads the chance off a tensor, which draws other numbers of the same distribution: a
    number would be compiled into it, and so all of it anew whenever the chance changes.
    """
    if torch.compiler.is_compiling():
        return torch.bernoulli(x.new_full(shape, keep))
    return x.new_empty(shape).bernoulli_(keep)
