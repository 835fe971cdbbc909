"""The architectures of a space: drawn, changed and put together so that each is one of the space."""

from collections.abc import Callable, Collection, Container, Mapping
from typing import Final, TypeAlias, final

import torch

from nasframe.core.choice import Choice
from nasframe.core.genotype import Genotype
from nasframe.core.random_state import pick
from nasframe.errors import UnsupportedError

_TRIES: Final = 100

Pair: TypeAlias = tuple[str, str]
"""A choice and one of its candidates."""


@final
class Architectures:
    """What the choices of a space can be decided to, together.

    A choice that no site in effect asks for is left open: the edges of an input that is not kept, or what
    is chosen within a candidate that is not. Where a change brings choices into effect that were not, they
    are drawn uniformly.

    Args:
        choices: By id, in the order of the blueprint.
        conditions: By choice id the (choice, candidate) pairs around each of its sites; one that is not
            there is always in effect.
    """

    def __init__(
        self, choices: Mapping[str, Choice], conditions: Mapping[str, Collection[frozenset[Pair]]]
    ) -> None:
        self.choices, self._conditions = dict(choices), dict(conditions)

    def of(self, kept: Mapping[str, tuple[str, ...]]) -> Genotype:
        """The architecture in which each choice that is in effect keeps `kept`, which has them all."""
        return self._decided(lambda choice: kept[choice.id])

    def sample(self, generator: torch.Generator) -> Genotype:
        """Draw one: each choice in effect uniformly among what it may keep."""
        return self._decided(lambda choice: _drawn(choice, generator))

    def sample_beside(self, known: Container[Genotype], generator: torch.Generator) -> Genotype:
        """Draw one that is not known yet; one that is, where a hundred tries find no other."""
        for _ in range(_TRIES):
            genotype = self.sample(generator)
            if genotype not in known:
                break
        return genotype

    def mutate(self, genotype: Genotype, generator: torch.Generator) -> Genotype:
        """Change one choice: one kept candidate gives way to one that is not kept, all drawn uniformly.

        Raises:
            UnsupportedError: There is no other architecture.
        """
        variable = [name for name, kept in genotype.choices.items() if self._others(name, kept)]
        if not variable:
            raise UnsupportedError(
                "space: must have architectures that differ in a choice, but has a single one; "
                "give it more candidates"
            )
        name = pick(variable, generator)
        kept = genotype[name]
        old, new = pick(range(len(kept)), generator), pick(self._others(name, kept), generator)
        return self._changed(genotype, name, old, new, generator)

    def redraw(self, genotype: Genotype, probability: float, generator: torch.Generator) -> Genotype:
        """Draw each choice anew with a probability (Guo et al. 2020); what is drawn may be what it was."""

        def decide(choice: Choice) -> tuple[str, ...]:
            kept = genotype.choices.get(choice.id)
            if kept is None or _chance(generator) < probability:
                return _drawn(choice, generator)
            return kept

        return self._decided(decide)

    def cross(self, one: Genotype, other: Genotype, generator: torch.Generator) -> Genotype:
        """Take each choice from either parent with equal chances, or from the one that decides it."""

        def decide(choice: Choice) -> tuple[str, ...]:
            parents = [each for each in (one, other) if choice.id in each.choices]
            return pick(parents, generator)[choice.id] if parents else _drawn(choice, generator)

        return self._decided(decide)

    def neighbors(self, genotype: Genotype, generator: torch.Generator) -> list[Genotype]:
        """Every architecture that `mutate` could make of this one, each once.

        Where a change brings further choices into effect, it makes one neighbor, with these drawn.
        """
        found = [
            self._changed(genotype, name, old, new, generator)
            for name, kept in genotype.choices.items()
            for old in range(len(kept))
            for new in self._others(name, kept)
        ]
        return list(dict.fromkeys(found))

    def _others(self, name: str, kept: Collection[str]) -> list[str]:
        return [each for each in self.choices[name].derivable if each not in kept]

    def _changed(
        self, genotype: Genotype, name: str, old: int, new: str, generator: torch.Generator
    ) -> Genotype:
        choice, kept = self.choices[name], list(genotype[name])
        kept[old] = new
        decided = {**genotype.choices, name: tuple(sorted(kept, key=choice.candidates.index))}
        return self._decided(lambda each: decided.get(each.id) or _drawn(each, generator))

    def _decided(self, decide: Callable[[Choice], tuple[str, ...]]) -> Genotype:
        """Decide each choice that is in effect, those that others stand in first."""
        kept: dict[str, tuple[str, ...]] = {}
        pairs: set[Pair] = set()
        waiting, count = list(self.choices), -1
        while len(kept) > count:  # a choice may have a site inside one that comes later
            count = len(kept)
            for name in waiting:
                if any(pairs >= condition for condition in self._conditions.get(name, [frozenset()])):
                    kept[name] = decide(self.choices[name])
                    pairs |= {(name, each) for each in kept[name]}
            waiting = [name for name in waiting if name not in kept]
        return Genotype(kept)


def _drawn(choice: Choice, generator: torch.Generator) -> tuple[str, ...]:
    legal = choice.derivable
    order = torch.randperm(len(legal), generator=generator, device="cpu")[: choice.num_chosen]
    return tuple(legal[index] for index in sorted(order.tolist()))


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, device="cpu"))
