"""Regularized evolution: the oldest of a population dies."""

from collections import deque
from typing import final

from nasframe.core import Explorer, Genotype, Space, architectures_of, explorers, generator_for, pick
from nasframe.types import PositiveInt


@explorers.register("regularized_evolution")
@final
class RegularizedEvolution(Explorer):
    """Aging evolution (Real et al. 2019, arXiv 1802.01548, Algorithm 1).

    The first architectures are drawn uniformly, as many as the population holds. Each further one is a
    mutation of the best of a sample of the population, which is drawn with replacement, and takes the
    place of the oldest. A mutation changes one choice (the paper's spaces: an operation or an input).

    Args:
        population: Architectures that live at a time (P).
        sample: Those that a parent is the best of (S).
    """

    def __init__(
        self, space: Space, seed: int, *, population: PositiveInt = 100, sample: PositiveInt = 25
    ) -> None:
        self._architectures = architectures_of(space)
        self._generator = generator_for(seed, "regularized_evolution")
        self._size, self._num_sampled = population, sample
        self._population: deque[tuple[Genotype, float]] = deque(maxlen=population)

    def ask(self) -> Genotype:
        if len(self._population) < self._size:
            return self._architectures.sample(self._generator)
        drawn = [pick(self._population, self._generator) for _ in range(self._num_sampled)]
        parent, _ = max(drawn, key=lambda one: one[1])
        return self._architectures.mutate(parent, self._generator)

    @property
    def num_random(self) -> int:
        return self._size

    def tell(self, genotype: Genotype, score: float) -> None:
        self._population.append((genotype, score))  # the oldest falls out
