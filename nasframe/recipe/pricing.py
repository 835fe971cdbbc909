"""What a search does about a cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch

from nasframe.core import (
    Algorithm,
    Choice,
    Constrained,
    Cost,
    Deriver,
    Genotype,
    Model,
    Objective,
    Penalized,
    Penalty,
    Prices,
    cheapest,
    cost_scale,
    dearest,
    expected_cost,
    unit_of,
)
from nasframe.quantity import spell_amount
from nasframe.registry import Component


@final
@dataclass(frozen=True)
class CostRange:
    """What the architectures of a space cost.

    Attributes:
        name: The cost.
        unit: Of its figures; empty where that has no name.
        least: What the cheapest architecture costs.
        most: What the dearest one does.
        max_cost: What the penalty allows; None for any amount.
    """

    name: str
    unit: str
    least: float
    most: float
    max_cost: float | None

    @classmethod
    def of(
        cls, choices: Mapping[str, Choice], prices: Prices, cost: Component[Cost], penalty: Component[Penalty]
    ) -> "CostRange":
        """That of the choices of a space.

        Raises:
            UnsupportedError: The penalty allows less than the cheapest architecture costs.
        """
        units = cost().units
        least, most = (prices.of(extreme(choices, prices)) for extreme in (cheapest, dearest))
        max_cost = penalty(cost_scale(choices, prices, units)).max_cost
        return cls(cost.name, unit_of(units), least, most, max_cost)

    @property
    def is_all_allowed(self) -> bool:
        """Whether a budget excludes nothing."""
        return self.max_cost is not None and self.max_cost >= self.most

    @property
    def verdict(self) -> str:
        """What the penalty's limit leaves to choose from; empty where it has none."""
        if self.max_cost is None:
            return ""
        budget, most = (spell_amount(each, self.unit) for each in (self.max_cost, self.most))
        if not self.is_all_allowed:
            return f"the budget of {budget} lies in between"
        return (
            f"the budget of {budget} excludes nothing, as no architecture costs more than {most}; lower "
            "search.penalty.max if the network shall cost less"
        )


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
