"""A cost that must not be exceeded."""

from collections.abc import Mapping
from typing import Annotated, Any, final

import torch
from annotated_types import Interval

from nasframe.core import CostScale, Penalty, penalties, read_amount, unit_of
from nasframe.errors import UnsupportedError
from nasframe.quantity import spell_amount
from nasframe.types import Amount, PositiveFloat


@penalties.register("budget")
@final
class Budget(Penalty):
    """Holds E[cost] ≤ max by an augmented Lagrangian; what is derived then costs at most `max`.

    With g = E[cost] / max − 1, which has no unit, alphas minimize loss + (max(0, λ + ρ g)² − λ²) / 2ρ
    (Rockafellar 1973; Nocedal, Wright: Numerical Optimization, 2nd edition, section 17.4). The multiplier
    λ starts at 0 and follows each step of the alphas: λ ← λ + rate × (max(0, λ + ρ g) − λ). The
    textbook's update has rate 1, after a whole minimization; after a single step λ would rise for as long
    as the alphas are on their way, and push them far below the budget.

    The deriver takes the most likely architecture that keeps the budget, by the sum of the prices of its
    parts. That is the cost of the network for parameters and multiply-adds; a latency is predicted by it.

    Args:
        max: A number in the cost's unit, or text such as ``12 ms`` or ``60 M``.
        rho: ρ, how steeply an excess is paid for before the multiplier has grown.
        rate: Share of the textbook's update that the multiplier makes after each step of the alphas.
    """

    def __init__(
        self,
        scale: CostScale,
        *,
        max: Amount,
        rho: PositiveFloat = 10.0,
        rate: Annotated[float, Interval(gt=0, le=1)] = 1e-3,
    ) -> None:
        self._max, self._rho, self._rate = read_amount(max, scale.units), rho, rate
        self._multiplier = 0.0
        if scale.cheapest > self._max:
            least, given = (spell_amount(each, unit_of(scale.units)) for each in (scale.cheapest, self._max))
            raise UnsupportedError(
                f"penalty budget: max must be at least {least}, what the cheapest architecture costs, got "
                f"{given}; allow more, or give the space cheaper candidates"
            )

    @property
    def max_cost(self) -> float:
        return self._max

    def __call__(self, loss: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        price = self._next_multiplier(cost)
        return loss + (price.square() - self._multiplier**2) / (2 * self._rho)

    def update(self, cost: float) -> None:
        target = float(self._next_multiplier(torch.tensor(cost, dtype=torch.float64)))
        self._multiplier += self._rate * (target - self._multiplier)

    def _next_multiplier(self, cost: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self._multiplier + self._rho * (cost / self._max - 1), min=0)

    def figures(self) -> Mapping[str, float]:
        return {"max_cost": self._max, "budget_multiplier": self._multiplier}

    def state_dict(self) -> dict[str, Any]:
        return {"multiplier": self._multiplier}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._multiplier = state["multiplier"]
