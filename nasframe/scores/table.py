"""The accuracy that a benchmark's table tells."""

from typing import final

from nasframe.core import Benchmark, Genotype, Score, Testbed, scores
from nasframe.registry import Component


@scores.register("table")
@final
class Table(Score):
    """The accuracy in the table of a benchmark, 0 to 1: explorers are tried in seconds, nothing is trained.

    Args:
        benchmark: Its space must be that of the recipe.
    """

    def __init__(self, testbed: Testbed, *, benchmark: Component[Benchmark]) -> None:
        self._benchmark = benchmark()

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        return self._benchmark.standing(genotype).accuracy
