"""Regularization that thins out skip connections."""

import math
from typing import Final, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.ops._mask import drawn_mask
from nasframe.types import ProperFraction

_DECAY: Final = 5.0  # over a stage; the authors' is 0.2 an epoch, of 25
_ROUNDING: Final = 1e-9  # 1 epoch of 3 is a third, whatever its last digit


@final
class SkipDropout(nn.Module):
    """In training, dropout whose chance falls over the stage (P-DARTS: Chen et al. 2019, arXiv 1904.12760).

    With t the share of the stage's epochs that are done, it is `probability` · exp(−5 (t − `restart`)). Until
    `restart` it is `probability` · (1 − t): in the authors' code it falls in a straight line while
    alphas rest, and begins anew with them.

    Args:
        probability: The chance at the beginning of the stage, for each number by itself.
        restart: The share of the epochs in which alphas rest.
    """

    def __init__(self, probability: ProperFraction, restart: ProperFraction = 0.0) -> None:
        super().__init__()
        self._first_probability = self._probability = probability
        self._restart = restart

    def anneal(self, progress: float) -> None:
        """Set the chance for `progress`, 0 to 1."""
        learned = progress - self._restart
        share = 1 - progress if learned < -_ROUNDING else math.exp(-_DECAY * max(learned, 0.0))
        self._probability = self._first_probability * share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.compiler.is_compiling():  # a dropout's chance would be compiled into it
            keep = 1 - self._probability
            return x / keep * drawn_mask(x, x.shape, keep)
        return functional.dropout(x, self._probability, self.training)

    def extra_repr(self) -> str:
        return f"{self._first_probability}"
