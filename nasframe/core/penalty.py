"""Penalties: how alphas pay for what the networks that they prefer cost."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from nasframe.core.choice import Choice
from nasframe.core.kept import keep_probabilities
from nasframe.core.most_likely import cheapest
from nasframe.core.prices import Prices
from nasframe.errors import FormatError
from nasframe.registry import Registry
from nasframe.types import Amount


@final
@dataclass(frozen=True)
class CostScale:
    """What the architectures of a space cost, for a penalty to measure by.

    Attributes:
        cheapest: The cost of the cheapest architecture.
        average: The expected cost where all candidates have equal weights.
        units: What a unit is worth in the figures of the cost, by name; see `Cost.units`.
    """

    cheapest: float
    average: float
    units: Mapping[str, float]


def cost_scale(choices: Mapping[str, Choice], prices: Prices, units: Mapping[str, float]) -> CostScale:
    """The scale of a space.

    Args:
        choices: All choices of the space by id.
        prices: Those of the space.
        units: Those of the cost.

    Raises:
        UnsupportedError: `prices` are of other choices.
    """
    least = prices.of(cheapest(choices, prices))
    equal = {
        name: torch.ones(len(choice.candidates), dtype=torch.float64) for name, choice in choices.items()
    }
    return CostScale(least, prices.expected(keep_probabilities(choices, equal)).item(), units)


def read_amount(amount: Amount, units: Mapping[str, float]) -> float:
    """An amount of a cost as a number in the unit of its figures, such as 12.0 for ``12 ms``.

    Raises:
        FormatError: It is not a positive number, alone or with one of the units; the message says only that.
    """
    if isinstance(amount, str):
        matched = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?) *([^0-9.\s]\S*)?", amount.strip())
        number, unit = matched.groups() if matched else ("", None)
        worth = 1.0 if unit is None else units.get(unit, math.nan)
        try:
            amount = float(number) * worth
        except ValueError:
            amount = math.nan
    if not 0 < amount < math.inf:
        named = f", alone or with one of the units {', '.join(units)}" if units else ""
        raise FormatError(f"must be a positive number{named}")
    return float(amount)


class Penalty(ABC):
    """What alphas minimize when an architecture has a price; weights minimize the loss alone."""

    @abstractmethod
    def __call__(self, loss: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        """What alphas minimize, of the loss of their batch and the expected cost; both are scalars."""

    @property
    def max_cost(self) -> float | None:
        """What the derived network may cost at most; None for any amount, as most penalties say."""
        return None

    def update(self, cost: float) -> None:
        """Called after each step that moved alphas, with the expected cost then."""

    def figures(self) -> Mapping[str, float]:
        """What to record of its state, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that `update` changes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


penalties: Registry[Penalty] = Registry("penalties", Penalty, given=("scale",))
