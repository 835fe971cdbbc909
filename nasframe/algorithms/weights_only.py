"""Plain training."""

from typing import ClassVar, final

from nasframe.core import Algorithm, Batch, Model, Objective, WeightUpdate, algorithms
from nasframe.types import Metrics


@algorithms.register("weights_only")
@final
class WeightsOnly(Algorithm):
    """Trains the weights and nothing else: how a derived network is retrained."""

    uses_valid: ClassVar[bool] = False
    knows_ranks: ClassVar[bool] = True
    chunks: int = 1  # of no passes of its own

    def __init__(self, model: Model, objective: Objective) -> None: ...

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        return update_weights(train)
