"""The norm of the loss's gradient."""

from typing import final

from nasframe.core import Genotype, Score, Testbed, scores
from nasframe.scores._initial import loss_gradients
from nasframe.types import PositiveInt


@scores.register("grad_norm")
@final
class GradNorm(Score):
    """Σ ‖∂L/∂θ‖ over the layers at initialization, on one batch (Abdelfattah et al. 2021, arXiv 2101.08134).

    The Euclidean norms of the gradients of each convolution's and linear layer's weights are added up,
    L is the loss in training.

    Args:
        batch_size: Training examples of the batch.
    """

    def __init__(self, testbed: Testbed, *, batch_size: PositiveInt = 64) -> None:
        self._testbed, self._batch_size = testbed, batch_size

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        _, gradients = loss_gradients(self._testbed, genotype, self._batch_size)
        return float(sum(gradient.norm() for gradient in gradients))
