"""A search whose architecture has a price."""

from typing import final

import torch
from torch import nn

from nasframe.core.algorithm import Algorithm
from nasframe.core.around import Around, AroundObjective
from nasframe.core.batch import Batch
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.penalty import Penalty
from nasframe.core.prices import Prices, expected_cost
from nasframe.core.weight_update import WeightUpdate
from nasframe.types import Metrics


@final
class Penalized(AroundObjective):
    """Lets alphas minimize what a penalty makes of the loss and the expected cost.

    The gradient is exact for every mixed op and algorithm (Cai et al. 2019, section 3.3.1).

    Args:
        objective: Loss and metrics; a penalty of its own counts as part of the loss.
        model: The supernet; only read.
        prices: Those of its space.
        penalty: How the cost counts.
    """

    def __init__(self, objective: Objective, model: Model, prices: Prices, penalty: Penalty) -> None:
        super().__init__(objective)
        self._model, self._prices, self._penalty = model, prices, penalty

    def penalty(self, loss: torch.Tensor) -> torch.Tensor:
        inner = super().penalty(loss)
        whole = loss if inner is None else loss + inner
        return self._penalty(whole, expected_cost(self._model, self._prices)) - loss


@final
class Constrained(Around):
    """An algorithm together with a penalty that changes with the alphas, and is saved with them.

    Args:
        algorithm: Owns the step.
        model: What it searches.
        prices: Those of the space.
        penalty: Hears of the expected cost after each step in which alphas moved.
    """

    def __init__(self, algorithm: Algorithm, model: Model, prices: Prices, penalty: Penalty) -> None:
        super().__init__(algorithm)
        self._penalty, self._model, self._prices = penalty, model, prices

    @torch.no_grad()
    def _alphas(self) -> torch.Tensor:
        return nn.utils.parameters_to_vector(self._model.parameters_at("upper"))

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        before = self._alphas()
        metrics = self._algorithm.step(train, valid, update_weights)
        if not torch.equal(before, self._alphas()):
            with torch.no_grad():
                self._penalty.update(expected_cost(self._model, self._prices).item())
        return metrics
