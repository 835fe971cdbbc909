"""The work of a network as its score."""

from typing import final

from nasframe.core import Genotype, Score, Testbed, costs, scores


@scores.register("flops")
@final
class Flops(Score):
    """Multiply-adds of one input: the heavier the better, which other scores must be measured against."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed, self._cost = testbed, costs.component("flops")()

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        return self._cost.of(self._testbed.network(genotype), self._testbed.task)
