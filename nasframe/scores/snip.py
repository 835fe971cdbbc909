"""SNIP: how much the loss depends on each weight being there."""

from typing import final

from nasframe.core import Genotype, Score, Testbed, scores
from nasframe.scores._initial import loss_gradients
from nasframe.types import PositiveInt


@scores.register("snip")
@final
class Snip(Score):
    """Σ |θ ∂L/∂θ| at initialization, on one batch (Lee et al. 2019, arXiv 1810.02340).

    The sum is over the weights of convolutions and linear layers, as Abdelfattah et al. 2021 (arXiv
    2101.08134) score architectures by; L is the loss in training.

    Args:
        batch_size: Training examples of the batch.
    """

    def __init__(self, testbed: Testbed, *, batch_size: PositiveInt = 64) -> None:
        self._testbed, self._batch_size = testbed, batch_size

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        weights, gradients = loss_gradients(self._testbed, genotype, self._batch_size)
        pairs = zip(weights, gradients, strict=True)
        return float(sum((weight.detach() * gradient).abs().sum() for weight, gradient in pairs))
