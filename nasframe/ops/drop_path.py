"""Regularization that drops whole paths."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core.ranks import num_ranks, rank
from nasframe.ops._mask import drawn_mask
from nasframe.types import ProperFraction


@final
class DropPath(nn.Module):
    """In training, zeroes an example's whole map, and scales up the others (Larsson et al. 2017).

    The chance grows linearly over the stage, from 0 (NASNet's schedule, Zoph et al. 2018). Several ranks draw
    for the whole batch, and take their share.

    Args:
        probability: The chance at the end of the stage, for each example by itself.

    Attributes:
        passes_on: It adds nothing to what it gets.
    """

    passes_on: ClassVar[bool] = True

    def __init__(self, probability: ProperFraction) -> None:
        super().__init__()
        self._final_probability, self._probability = probability, 0.0

    def anneal(self, progress: float) -> None:
        """Set the chance to `progress` (0 to 1) of the final one."""
        self._probability = self._final_probability * progress

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self._probability == 0:
            return x
        keep = 1 - self._probability
        mask = drawn_mask(x, (num_ranks() * len(x), *[1] * (x.dim() - 1)), keep)
        return x / keep * mask[rank() * len(x) :][: len(x)]

    def extra_repr(self) -> str:
        return f"{self._final_probability}"
