"""The regularizer of DrNAS."""

from typing import ClassVar, Literal, final

import torch

from nasframe.core import HasConcentration, Model, Regularizer, ops_that, regularizers
from nasframe.types import NonNegativeFloat


@regularizers.register("dirichlet_anchor")
@final
class DirichletAnchor(Regularizer):
    """weight × d(β, 1): holds concentrations near 1 (Chen et al. 2021, arXiv 2006.10355).

    At 1 all mixtures are equally probable; far below, mixtures are nearly one-hot, far above, always the
    same. The distance is summed over the choices: `l2` is ½ ‖β − 1‖², `kl` the Kullback-Leibler divergence
    of Dirichlet(β) from Dirichlet(1).

    Departure from the authors' code: its `l2` is Adam's weight decay of alpha, which has the same gradient
    where alpha is positive. Where this stands in its place, set that of the alpha optimizer to 0.

    Args:
        weight: How much it counts.
        distance: How it is measured.
    """

    reads: ClassVar[type] = HasConcentration

    def __init__(
        self, model: Model, *, weight: NonNegativeFloat = 1e-3, distance: Literal["l2", "kl"] = "l2"
    ) -> None:
        self._ops, self._weight = ops_that(model, HasConcentration), weight
        self._distance = _half_square if distance == "l2" else _divergence

    def __call__(self, progress: float) -> torch.Tensor:
        terms = torch.stack([self._distance(op.concentration()) for op in self._ops])
        return self._weight * terms.sum()


def _half_square(concentration_K: torch.Tensor) -> torch.Tensor:
    return (concentration_K - 1).square().sum() / 2


def _divergence(concentration_K: torch.Tensor) -> torch.Tensor:
    """KL(Dirichlet(β) ‖ Dirichlet(1)) = log Γ(Σβ) − Σ log Γ(β_k) − log Γ(K) + Σ (β_k − 1)(ψ(β_k) − ψ(Σβ))."""
    total, count = concentration_K.sum(), concentration_K.new_tensor(float(len(concentration_K)))
    normalizers = total.lgamma() - concentration_K.lgamma().sum() - count.lgamma()
    return normalizers + ((concentration_K - 1) * (concentration_K.digamma() - total.digamma())).sum()
