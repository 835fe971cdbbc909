"""The zero-one loss of FairDARTS."""

from typing import ClassVar, final

import torch

from nasframe.core import HasGates, Model, Regularizer, ops_that, regularizers
from nasframe.types import NonNegativeFloat


@regularizers.register("zero_one")
@final
class ZeroOne(Regularizer):
    """−weight × mean of (σ(alpha) − 0.5)² (Chu et al. 2020, arXiv 1911.12126).

    The mean is over the candidates of all choices. It pushes each gate away from a half, to 0 or to 1, so
    that little is lost when an architecture is derived.

    Args:
        weight: How much it counts; 10 in the paper.
    """

    reads: ClassVar[type] = HasGates

    def __init__(self, model: Model, *, weight: NonNegativeFloat = 10.0) -> None:
        self._ops, self._weight = ops_that(model, HasGates), weight

    def __call__(self, progress: float) -> torch.Tensor:
        gates_N = torch.cat([op.gates() for op in self._ops])
        return -self._weight * (gates_N - 0.5).square().mean()
