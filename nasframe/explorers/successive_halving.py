"""Successive halving: many architectures on small budgets, few on the whole one."""

from typing import Annotated, ClassVar, Final, final

from annotated_types import Ge

from nasframe.core import Explorer, Genotype, Space, architectures_of, explorers, generator_for, pick
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, PositiveInt, Probability

_TRIES: Final = 100
_FEWEST_PARENTS: Final = 4  # scores on small budgets are noisy


@explorers.register("successive_halving")
@final
class SuccessiveHalving(Explorer):
    """Scores many on a small budget, and the best of them on larger ones (Jamieson and Talwalkar 2016).

    Drawn architectures are scored on η^−s of the budget, where s is the largest number with η^s ≤ `count`;
    the best of them, one of η, on η times as much, and so on up to the whole budget. Then the next ones are
    drawn. With the defaults it scores 27 on 1/27, 9 on 1/9, 3 on 1/3, and 1 on the whole budget. Where so
    small a budget ranks by chance, `halvings` makes s smaller, as the other brackets of Hyperband do (Li et
    al. 2018, arXiv 1603.06560, Algorithm 1): with 2 it scores 27 on 1/9, 9 on 1/3, and 3 on the whole budget.

    With `bred`, the last of those on the smallest budget are not drawn but bred, as in DEHB (Awad et
    al. 2021, arXiv 2105.09821): each takes its choices from two of the best so far on that budget, one
    of η but at least four, and draws each choice anew with `mutation_probability`.

    Args:
        count: Architectures that are drawn at a time.
        eta: η, how many of them give way to one.
        halvings: s, how often they do; null for as often as `count` allows.
        bred: How many of `count` are bred; at least η are drawn.
        mutation_probability: For each choice of one that is bred.

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
        bred: NonNegativeInt = 0,
        mutation_probability: Probability = 0.2,
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
        if bred and count - bred < eta:
            raise UnsupportedError(
                f"successive_halving: bred must be at most {max(count - eta, 0)}, so that {eta} of {count} "
                f"are drawn, got {bred}; draw more at a time"
            )
        self._num_drawn, self._probability = count - bred, mutation_probability
        self._rung = 0
        self._waiting: list[Genotype] = []
        self._heard: list[tuple[Genotype, float]] = []

    @property
    def budget(self) -> float:
        return float(self._eta) ** (self._rung - self._rungs)

    def ask(self) -> Genotype:
        if self._rung > 0:
            return self._waiting[0]
        known = {one for one, _ in self._heard}
        for _ in range(_TRIES if len(known) >= self._num_drawn else 0):
            if (genotype := self._child()) not in known:
                return genotype
        return self._architectures.sample_beside(known, self._generator)

    def _child(self) -> Genotype:
        """One that is bred from two of the best on the smallest budget."""
        best = self._ranked()[: max(_FEWEST_PARENTS, len(self._heard) // self._eta)]
        one, other = (pick(best, self._generator) for _ in range(2))
        child = self._architectures.cross(one, other, self._generator)
        return self._architectures.redraw(child, self._probability, self._generator)

    def _ranked(self) -> list[Genotype]:
        """What was heard of on this budget, the best first."""
        return [one for one, _ in sorted(self._heard, key=lambda one: -one[1])]

    def tell(self, genotype: Genotype, score: float) -> None:
        self._heard.append((genotype, score))
        self._waiting = self._waiting[1:]
        if len(self._heard) < self._count if self._rung == 0 else self._waiting:
            return
        if self._rung == self._rungs:
            self._rung, self._heard = 0, []
            return
        self._waiting = self._ranked()[: len(self._heard) // self._eta]
        self._rung, self._heard = self._rung + 1, []
