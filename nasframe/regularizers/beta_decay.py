"""The regularizer of β-DARTS."""

from typing import ClassVar, final

import torch

from nasframe.core import HasLogits, Model, Regularizer, ops_that, regularizers
from nasframe.types import NonNegativeFloat


@regularizers.register("beta_decay")
@final
class BetaDecay(Regularizer):
    """weight × mean over choices of log Σ_k exp(alpha_k) (Ye et al. 2022, arXiv 2203.01665).

    Its gradient is the softmax of alpha: it pulls large alphas down the most, and so holds the weights of
    the candidates together. Its weight grows linearly over the epochs, as in the authors' code for
    NAS-Bench-201, from 0 to 50.

    Args:
        max_weight: The weight that the last epoch ends at.
    """

    reads: ClassVar[type] = HasLogits

    def __init__(self, model: Model, *, max_weight: NonNegativeFloat = 50.0) -> None:
        self._ops, self._max_weight = ops_that(model, HasLogits), max_weight

    def __call__(self, progress: float) -> torch.Tensor:
        terms = torch.stack([op.logits().logsumexp(0) for op in self._ops])
        return self._max_weight * progress * terms.mean()
