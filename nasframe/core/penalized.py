"""An objective whose architecture has a price."""

from typing import Any, final

import torch

from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.prices import Prices, expected_cost
from nasframe.types import Metrics


@final
class Penalized(Objective):
    """Adds weight × E[cost] / reference to what the alphas minimize (Cai et al. 2019, section 3.3.1).

    The reference is the expected cost at equal weights of all candidates, so that `weight` means the
    same for multiply-adds and milliseconds. The gradient is exact for every mixed op and algorithm;
    see `Prices.expected` for what the expectation ignores.

    Args:
        objective: Loss and metrics; a penalty of its own is kept.
        model: The supernet; only read.
        prices: Those of its space.
        weight: How much the cost counts; 0 for not at all.
    """

    def __init__(self, objective: Objective, model: Model, prices: Prices, *, weight: float) -> None:
        self._objective, self._model, self._prices = objective, model, prices
        equal = {
            choice: torch.full((len(weights),), 1 / len(weights), dtype=torch.float64)
            for choice, weights in model.choice_weights().items()
        }
        self._scale = weight / (float(prices.expected(equal)) or 1.0)

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return self._objective.loss(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        return self._objective.metrics(outputs, targets)

    def penalty(self) -> torch.Tensor:
        inner, own = self._objective.penalty(), self._scale * expected_cost(self._model, self._prices)
        return own if inner is None else inner + own
