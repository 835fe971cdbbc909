"""Random search, the baseline of every comparison."""

import sys
from typing import final

from nasframe.core import Explorer, Genotype, Space, explorers, generator_for, sample


@explorers.register("random_search")
@final
class RandomSearch(Explorer):
    """Draws each architecture uniformly and independently (Li and Talwalkar 2019; Yu et al. 2020)."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._generator = generator_for(seed, "random_search")

    def ask(self) -> Genotype:
        return sample(self._space, self._generator)

    @property
    def num_random(self) -> int:
        return sys.maxsize

    def tell(self, genotype: Genotype, score: float) -> None:
        """Scores do not change what is drawn."""
