"""Pruning: which candidates a search goes on with, and its space without the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import final

from torch import nn

from nasframe.core.choice import Choice, InputChoice, LayerChoice, ValueChoice
from nasframe.core.filler import AnyChoice, Filler
from nasframe.core.genotype import Genotype
from nasframe.core.graph import Graph
from nasframe.core.space import Space


def strongest(
    choices: Mapping[str, Choice], weights: Mapping[str, Sequence[float]], num_kept: int
) -> dict[str, tuple[str, ...]]:
    """The strongest candidates of each layer or value choice, in the order that the choice has them in.

    As many of them as a genotype keeps are such as it may keep, so that not only ``none`` is left; otherwise
    ``none`` counts like any other. Of equal ones the first wins. Inputs are never pruned.

    Args:
        choices: By id.
        weights: Of the candidates, by choice id; choices that are not there keep theirs.
        num_kept: How many are left; all, where a choice has no more.
    """
    return {
        choice.id: _strongest(choice, weights[choice.id], num_kept)
        for choice in choices.values()
        if choice.id in weights and not isinstance(choice, InputChoice)
    }


def _strongest(choice: Choice, weights_K: Sequence[float], num_kept: int) -> tuple[str, ...]:
    weight = dict(zip(choice.candidates, weights_K, strict=True))
    falling = sorted(choice.candidates, key=lambda name: -weight[name])
    needed = [name for name in falling if name in choice.derivable][: choice.num_chosen]
    others = [name for name in falling if name not in needed]
    kept = {*needed, *others[: max(0, num_kept - len(needed))]}
    return tuple(name for name in choice.candidates if name in kept)


@final
class Pruned(Space):
    """A space some of whose candidates are left out.

    Args:
        space: The whole space.
        kept: The candidates that are left, by choice id; a choice that is not there has all of its own.
    """

    def __init__(self, space: Space, kept: Mapping[str, tuple[str, ...]]) -> None:
        self._space, self._kept = space, dict(kept)

    def build(self, filler: Filler) -> nn.Module:
        return self._space.build(_Pruning(filler, self._kept))

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        return self._space.graphs(genotype)

    def key(self, genotype: Genotype) -> str | None:
        return self._space.key(genotype)


@final
class _Pruning(Filler):
    """Hands the questions of a blueprint on, without the candidates that are left out."""

    def __init__(self, filler: Filler, kept: Mapping[str, tuple[str, ...]]) -> None:
        self.mixed, self._filler, self._kept = filler.mixed, filler, kept

    def _pruned(self, choice: AnyChoice) -> AnyChoice:
        left = self._kept.get(choice.id, choice.candidates)
        return replace(
            choice,
            candidates=tuple(name for name in choice.candidates if name in left),
            search_only=tuple(name for name in choice.search_only if name in left),
        )

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        return self._filler.layer(self._pruned(choice), make)

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return self._filler.inputs(choice, make)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return self._filler.subset(choice)

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        pruned = self._pruned(choice)
        return self._filler.value(pruned, make, narrow_input=narrow_input, pad_output=pad_output)

    def sum(self, branches: Sequence[nn.Module], choice: InputChoice | None = None) -> nn.Module:
        return self._filler.sum(branches, choice)
