"""Successive halving: many architectures on small budgets, few on the whole one."""

from typing import Annotated, ClassVar, final

from annotated_types import Ge

from nasframe.core import Explorer, Genotype, Space, architectures_of, explorers, generator_for
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, PositiveInt


@explorers.register("successive_halving")
@final
class SuccessiveHalving(Explorer):
    """Scores many on a small budget, and the best of them on larger ones (Jamieson and Talwalkar 2016).

    Drawn architectures are scored on η^−s of the budget, where s is the largest number with η^s ≤ `count`;
    the best of them, one of η, on η times as much, and so on up to the whole budget. Then the next ones are
    drawn. With the defaults it scores 27 on 1/27, 9 on 1/9, 3 on 1/3, and 1 on the whole budget. Where so
    small a budget ranks by chance, `halvings` makes s smaller, as the other brackets of Hyperband do (Li et
    al. 2018, arXiv 1603.06560, Algorithm 1): with 2 it scores 27 on 1/9, 9 on 1/3, and 3 on the whole budget.

    Args:
        count: Architectures that are drawn at a time.
        eta: η, how many of them give way to one.
        halvings: s, how often they do; null for as often as `count` allows.

    Raises:
        UnsupportedError: `count` does not allow so many.
    """

    uses_budgets: ClassVar[bool] = True

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        count: PositiveInt = 27,
        eta: Annotated[int, Ge(2)] = 3,
        halvings: NonNegativeInt | None = None,
    ) -> None:
        self._architectures = architectures_of(space)
        self._generator = generator_for(seed, "successive_halving")
        self._count, self._eta = count, eta
        self._rungs = 0
        while eta ** (self._rungs + 1) <= count:
            self._rungs += 1
        if halvings is not None and halvings > self._rungs:
            raise UnsupportedError(
                f"successive_halving: halvings must be at most {self._rungs}, after which none of {count} "
                f"would be left to halve, got {halvings}; draw more at a time"
            )
        self._rungs = self._rungs if halvings is None else halvings
        self._rung = 0
        self._waiting: list[Genotype] = []
        self._heard: list[tuple[Genotype, float]] = []

    @property
    def budget(self) -> float:
        return float(self._eta) ** (self._rung - self._rungs)

    def ask(self) -> Genotype:
        if self._rung == 0:
            return self._architectures.sample_beside({one for one, _ in self._heard}, self._generator)
        return self._waiting[0]

    def tell(self, genotype: Genotype, score: float) -> None:
        self._heard.append((genotype, score))
        self._waiting = self._waiting[1:]
        if len(self._heard) < self._count if self._rung == 0 else self._waiting:
            return
        if self._rung == self._rungs:
            self._rung, self._heard = 0, []
            return
        ranked = sorted(self._heard, key=lambda one: -one[1])
        self._waiting = [one for one, _ in ranked[: len(ranked) // self._eta]]
        self._rung, self._heard = self._rung + 1, []
