"""What a search does about a cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch

from nasframe.core import (
    Algorithm,
    Constrained,
    Cost,
    Deriver,
    Genotype,
    Model,
    Objective,
    Penalized,
    Penalty,
    Prices,
    cost_scale,
    expected_cost,
)
from nasframe.registry import Component


@final
@dataclass(frozen=True)
class Pricing:
    """The prices of what a supernet holds, and how its alphas pay for them.

    Attributes:
        model: The supernet.
        prices: The cost of each architecture.
        penalty: How it counts in the search.
    """

    model: Model
    prices: Prices
    penalty: Penalty

    @classmethod
    def of(cls, model: Model, prices: Prices, cost: Cost, penalty: Component[Penalty]) -> "Pricing":
        """Prices of the supernet's architectures, which are those of `cost`, and a penalty for them."""
        return cls(model, prices, penalty(cost_scale(model.choices, prices, cost.units)))

    def objective(self, objective: Objective) -> Objective:
        """The objective that the search minimizes."""
        return Penalized(objective, self.model, self.prices, self.penalty)

    def algorithm(
        self, make: Callable[[Model, Objective], Algorithm]
    ) -> Callable[[Model, Objective], Algorithm]:
        """What builds the algorithm, so that the penalty follows its steps and is saved with it."""
        return lambda model, objective: Constrained(make(model, objective), model, self.prices, self.penalty)

    def derive(self, deriver: Deriver) -> Genotype:
        """The architecture that the alphas prefer, among those that cost no more than they may."""
        if self.penalty.max_cost is None:
            return deriver.derive(self.model)
        return deriver.derive_within(self.model, self.prices, self.penalty.max_cost)

    def figures(self, genotype: Genotype) -> Mapping[str, float]:
        """The expected cost, that of the architecture that the alphas prefer, and the penalty's state."""
        with torch.no_grad():
            expected = expected_cost(self.model, self.prices).item()
        costs = {"expected_cost": expected, "derived_cost": self.prices.of(genotype)}
        return costs | dict(self.penalty.figures())
