"""What a table, or counting alone, tells of the architectures of a setting."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, Final, final

from nasframe.core import (
    Benchmark,
    Genotype,
    Prices,
    Space,
    architectures_of,
    choices_of,
    cost_scale,
    costs,
    generator_for,
    price,
)
from nasframe.errors import UnsupportedError
from nasframe.recipe import Recipe
from nasframe.recipe.planning import task_of
from nasframe.study.statistic import expected_best, kendall

COUNTS: Final = (1, 20, 100)
"""Of how many random architectures a table tells what the best of them reaches, on average."""

_MOST: Final = 100_000
_DRAWN: Final = 10_000


@final
class Architectures:
    """The architectures that a recipe may find, with their multiply-adds and what a table says of them.

    Attributes:
        all: Each of them, or so many that were drawn where there are more than 100,000.
        are_all: Whether it is all of them.
    """

    def __init__(self, recipe: Recipe) -> None:
        task = task_of(recipe)
        self._space: Space = recipe.space(task)
        self._multiply_adds = price(recipe.retrain.space(task), task, costs.component("flops")())
        benchmark = recipe.search.benchmark
        self._benchmark: Benchmark | None = None if benchmark is None else benchmark()
        choices = choices_of(self._space).values()
        counts = (math.comb(len(each.derivable), each.num_chosen) for each in choices)
        self.are_all = math.prod(counts) <= _MOST
        limit = _limit(recipe, self._space)
        found = self._each() if self.are_all else self._drawn(recipe.seed)
        self.all = [each for each in found if limit is None or limit[0].of(each) <= limit[1]]
        if not self.all:
            raise UnsupportedError(
                f"{recipe.name}: some architecture must keep the budget of the search, but none does; "
                "allow more"
            )

    def _each(self) -> Iterator[Genotype]:
        architectures = architectures_of(self._space)
        choices = architectures.choices
        kept = [itertools.combinations(each.derivable, each.num_chosen) for each in choices.values()]
        every = (dict(zip(choices, each, strict=True)) for each in itertools.product(*kept))
        return iter(dict.fromkeys(map(architectures.of, every)))

    def _drawn(self, seed: int) -> Iterator[Genotype]:
        architectures, generator = architectures_of(self._space), generator_for(seed, "study")
        return iter(dict.fromkeys(architectures.sample(generator) for _ in range(_DRAWN)))

    def multiply_adds(self, genotype: Genotype) -> float:
        """Of one input, in the network that is retrained."""
        return self._multiply_adds.of(genotype)

    def accuracy(self, genotype: Genotype) -> float | None:
        """What the table says, 0 to 1; None where there is none."""
        return None if self._benchmark is None else self._benchmark.standing(genotype).accuracy

    def heaviest(self) -> Genotype:
        """The one that a ranking by multiply-adds puts first."""
        return max(self.all, key=self.multiply_adds)

    def key(self, genotype: Genotype) -> str | None:
        """An architecture as its field writes it."""
        return self._space.key(genotype)

    def facts(self) -> dict[str, Any]:
        """What random choice and multiply-adds alone give, as plain data; exact where all are known."""
        heaviest = self.heaviest()
        found: dict[str, Any] = {
            "count": len(self.all),
            "are_all": self.are_all,
            "heaviest": {
                "architecture": self.key(heaviest),
                "multiply_adds": self.multiply_adds(heaviest),
                "genotype": json.loads(heaviest.to_json()),
            },
        }
        if accuracies := self._accuracies():
            best = max(range(len(accuracies)), key=accuracies.__getitem__)
            found["heaviest"]["accuracy"] = self.accuracy(heaviest)
            found["best"] = {"architecture": self.key(self.all[best]), "accuracy": accuracies[best]}
            found["random"] = {str(count): expected_best(accuracies, count) for count in COUNTS}
            found["kendall"] = kendall(list(map(self.multiply_adds, self.all)), accuracies)
            found["accuracies"] = sorted(accuracies, reverse=True)
        return found

    def _accuracies(self) -> list[float]:
        known = (self.accuracy(each) for each in self.all)
        return [each for each in known if each is not None]


def _limit(recipe: Recipe, space: Space) -> tuple[Prices, float] | None:
    """What a search with a budget of costs may find, as its run decides it."""
    if recipe.search.cost is None:
        return None
    task, cost = task_of(recipe), recipe.search.cost()
    if cost.is_measured:
        raise UnsupportedError(
            f"search.cost: must be counted, such as flops, so that all trials have the same limit, "
            f"but `{recipe.search.cost.name}` is measured anew in each; choose another one"
        )
    prices = price(recipe.retrain.space(task), task, cost)
    max_cost = recipe.search.penalty(cost_scale(choices_of(space), prices, cost.units)).max_cost
    return None if max_cost is None else (prices, max_cost)
