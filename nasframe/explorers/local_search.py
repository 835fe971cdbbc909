"""Local search: to the best neighbor, until there is no better one."""

from typing import Literal, final

import torch

from nasframe.core import Explorer, Genotype, Space, architectures_of, explorers, generator_for


@explorers.register("local_search")
@final
class LocalSearch(Explorer):
    """Climbs from a drawn architecture to its best neighbor (White et al. 2021, arXiv 2005.02960).

    Neighbors differ in one choice; they come in random order. Where none is better than where it stands, it
    starts again from another drawn architecture. What was scored before is not asked for again.

    Args:
        move: To the `best` of all neighbors, or to the `first` that is better.
    """

    def __init__(self, space: Space, seed: int, *, move: Literal["best", "first"] = "best") -> None:
        self._architectures = architectures_of(space)
        self._generator = generator_for(seed, "local_search")
        self._is_hasty = move == "first"
        self._scores: dict[Genotype, float] = {}
        self._here: Genotype | None = None
        self._around: list[Genotype] = []
        self._unheard: list[Genotype] = []

    def ask(self) -> Genotype:
        self._move()
        if self._here is None:
            return self._architectures.sample_beside(self._scores, self._generator)
        return self._unheard.pop(0)

    def _move(self) -> None:
        """Go on until there is a neighbor to ask for; leave off at an optimum."""
        while self._here is not None:
            heard = [each for each in self._around if each in self._scores]
            best = max(heard, key=self._scores.__getitem__, default=self._here)
            is_better = self._scores[best] > self._scores[self._here]
            if is_better and (self._is_hasty or not self._unheard):
                self._stand(best)
            elif self._unheard:
                return
            else:
                self._here = None

    def _stand(self, genotype: Genotype) -> None:
        self._here = genotype
        neighbors = self._architectures.neighbors(genotype, self._generator)
        order = torch.randperm(len(neighbors), generator=self._generator)
        self._around = [neighbors[index] for index in order.tolist()]
        self._unheard = [each for each in self._around if each not in self._scores]

    def tell(self, genotype: Genotype, score: float) -> None:
        self._scores[genotype] = score
        if self._here is None:
            self._stand(genotype)
