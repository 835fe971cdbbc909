"""The evolution of SPOS: generations of mutants and children of the best."""

from typing import Final, final

from nasframe.core import Explorer, Genotype, Space, architectures_of, explorers, generator_for, pick
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, PositiveInt, Probability

_TRIES: Final = 100


@explorers.register("evolution")
@final
class Evolution(Explorer):
    """Generations from the best so far (SPOS, Guo et al. 2020, arXiv 1904.00420, Algorithm 1).

    The first generation is drawn uniformly. Each later one has mutants of the `top` best of all
    generations, in which each choice is drawn anew with `mutation_probability`, then children of two of
    them, which take each choice from either; drawn ones fill it up, also where a
    hundred tries make none that was not asked for before. The defaults are the paper's.

    Args:
        population: Architectures of a generation.
        top: How many of the best have offspring.
        mutants: Mutants in a generation.
        children: Children of two in a generation.
        mutation_probability: For each choice of a mutant.

    Raises:
        UnsupportedError: A generation has more offspring than members.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        population: PositiveInt = 50,
        top: PositiveInt = 10,
        mutants: NonNegativeInt = 25,
        children: NonNegativeInt = 25,
        mutation_probability: Probability = 0.1,
    ) -> None:
        self._architectures = architectures_of(space)
        self._generator = generator_for(seed, "evolution")
        self._population, self._num_top = population, top
        self._mutants, self._children, self._probability = mutants, children, mutation_probability
        if mutants + children > population:
            raise UnsupportedError(
                f"evolution: mutants and children must together be at most the population of {population}, "
                f"got {mutants} and {children}; change one of them"
            )
        self._top: list[tuple[Genotype, float]] = []
        self._generation: list[tuple[Genotype, float]] = []
        self._asked: set[Genotype] = set()

    def ask(self) -> Genotype:
        for _ in range(_TRIES):
            genotype = self._proposed()
            if genotype not in self._asked:
                break
        else:
            genotype = self._architectures.sample_beside(self._asked, self._generator)
        self._asked.add(genotype)
        return genotype

    def _proposed(self) -> Genotype:
        place = len(self._generation)
        if not self._top or place >= self._mutants + self._children:
            return self._architectures.sample(self._generator)
        one, other = (pick(self._top, self._generator)[0] for _ in range(2))
        if place < self._mutants:
            return self._architectures.redraw(one, self._probability, self._generator)
        return self._architectures.cross(one, other, self._generator)

    @property
    def num_random(self) -> int:
        return self._population

    def tell(self, genotype: Genotype, score: float) -> None:
        self._generation.append((genotype, score))
        if len(self._generation) == self._population:
            ranked = sorted([*self._top, *self._generation], key=lambda one: -one[1])
            self._top, self._generation = ranked[: self._num_top], []
