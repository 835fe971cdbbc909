"""Fillers: what stands at each site of a blueprint."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeVar, final

import torch
from torch import nn

from nasframe.core.choice import Choice, InputChoice, LayerChoice, ValueChoice
from nasframe.core.genotype import Genotype
from nasframe.core.mixed_op import MakeMixedOp, MixedInput, MixedLayer, MixedOp, SumOfInputs, SumOfLayers
from nasframe.errors import ComponentError, FormatError

AnyChoice = TypeVar("AnyChoice", bound=Choice)


class Filler(ABC):
    """Answers a blueprint's question: what stands here?

    Attributes:
        mixed: Whether sites hold mixtures, so that batch norms go without affine parameters.
    """

    mixed: ClassVar[bool]

    @abstractmethod
    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        """The module at a site of a layer choice; `make` builds one candidate by name."""

    @abstractmethod
    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        """A module that takes all states of a node; `make` builds the branch of one state."""

    @abstractmethod
    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        """Which inputs there are, for a blueprint that combines them itself (a concatenation)."""

    @abstractmethod
    def value(self, choice: ValueChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        """The module at a site of a value choice; `make` builds it with one value."""


@final
class SupernetFiller(Filler):
    """Puts a mixture at each site; sites with one choice id share one mixed op.

    Args:
        make_mixed_op: Builds the mixed op of a choice.
    """

    mixed = True

    def __init__(self, make_mixed_op: MakeMixedOp) -> None:
        self._make_mixed_op = make_mixed_op
        self.choices: dict[str, Choice] = {}
        self.mixed_ops: dict[str, MixedOp] = {}

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        return MixedLayer(self._mixed_op(choice), [make(name) for name in choice.candidates])

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        branches = [make(index) for index in range(len(choice.candidates))]
        is_settled = bool(choice.edges) or choice.num_chosen == len(choice.candidates)
        if is_settled and not choice.weighed:
            _note(self.choices, choice)
            return SumOfInputs(branches, range(len(branches)))
        return MixedInput(self._mixed_op(choice), branches)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        _note(self.choices, choice)
        return tuple(range(len(choice.candidates)))

    def value(self, choice: ValueChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return MixedLayer(self._mixed_op(choice), [make(value) for value in choice.values])

    def _mixed_op(self, choice: Choice) -> MixedOp:
        _note(self.choices, choice)
        if choice.id not in self.mixed_ops:
            self.mixed_ops[choice.id] = self._make_mixed_op(choice)
        return self.mixed_ops[choice.id]


@final
class DerivedFiller(Filler):
    """Puts at each site what a genotype keeps there.

    Args:
        genotype: Must keep legal candidates for each choice that the blueprint asks for.
    """

    mixed = False

    def __init__(self, genotype: Genotype) -> None:
        self._genotype = genotype
        self.choices: dict[str, Choice] = {}

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        return _one_or_sum([make(name) for name in self._kept(choice)])

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        kept = self.subset(choice)
        return SumOfInputs([make(index) for index in kept], kept)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return tuple(dict.fromkeys(choice.candidates.index(name) for name in self._kept(choice)))

    def value(self, choice: ValueChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return _one_or_sum([make(int(name)) for name in self._kept(choice)])

    def _kept(self, choice: Choice) -> tuple[str, ...]:
        _note(self.choices, choice)
        kept = self._genotype.choices.get(choice.id, ())
        if not kept:
            raise FormatError(f"genotype: choice `{choice.id}` must keep at least one of {choice.derivable}")
        if illegal := [name for name in kept if name not in choice.derivable]:
            raise FormatError(
                f"genotype: choice `{choice.id}` must keep some of {choice.derivable}, got {illegal}; "
                "give the space the operations that this genotype uses, or another genotype"
            )
        return kept

    def check_complete(self) -> None:
        """Refuse a genotype that decides what the blueprint never asked.

        Raises:
            FormatError: Names the left-over choice ids.
        """
        if unknown := sorted(set(self._genotype.choices) - set(self.choices)):
            raise FormatError(
                f"genotype: the space has no choice {', '.join(f'`{name}`' for name in unknown)}; "
                "is it the genotype of another space, or of another number of nodes?"
            )


@final
class SamplingFiller(Filler):
    """Draws each choice once, uniformly, where the blueprint asks for it.

    What stands below an input that was not drawn is never asked for, so that `genotype` decides
    exactly the choices that its network has.

    Args:
        generator: The source of randomness.
    """

    mixed = False

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self.choices: dict[str, Choice] = {}
        self._drawn: dict[str, tuple[str, ...]] = {}

    @property
    def genotype(self) -> Genotype:
        return Genotype(self._drawn)

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        return _one_or_sum([make(name) for name in self._draw(choice)])

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        kept = self.subset(choice)
        return SumOfInputs([make(index) for index in kept], kept)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return tuple(choice.candidates.index(name) for name in self._draw(choice))

    def value(self, choice: ValueChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return _one_or_sum([make(int(name)) for name in self._draw(choice)])

    def _draw(self, choice: Choice) -> tuple[str, ...]:
        _note(self.choices, choice)
        if choice.id not in self._drawn:
            legal = choice.derivable
            order = torch.randperm(len(legal), generator=self._generator, device="cpu")[: choice.num_chosen]
            self._drawn[choice.id] = tuple(legal[index] for index in sorted(order.tolist()))
        return self._drawn[choice.id]


def _one_or_sum(layers: list[nn.Module]) -> nn.Module:
    return layers[0] if len(layers) == 1 else SumOfLayers(layers)


def _note(choices: dict[str, Choice], choice: Choice) -> None:
    if choices.setdefault(choice.id, choice) != choice:
        raise ComponentError(
            f"choice `{choice.id}` must be the same at each of its sites, "
            f"but is {choices[choice.id]} at one and {choice} at another"
        )
