"""Fillers: what stands at each site of a blueprint."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, final

import torch
from torch import nn

from nasframe.core.choice import Choice, InputChoice, LayerChoice, ValueChoice
from nasframe.core.fused import FusedSum
from nasframe.core.genotype import Genotype
from nasframe.core.mixed_op import MakeMixedOp, MixedInput, MixedLayer, MixedOp, SumOfInputs, SumOfLayers
from nasframe.core.sharing import Resized, share
from nasframe.errors import ComponentError, FormatError

AnyChoice = TypeVar("AnyChoice", bound=Choice)
Given = TypeVar("Given")


class Filler(ABC):
    """Answers a blueprint's question: what stands here?

    Attributes:
        mixed: Whether sites hold mixtures, so that batch norms go without affine parameters.
    """

    mixed: bool

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
    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        """The module at a site of a value choice; `make` builds it with one value.

        In a supernet all values share the weights of the module with the largest one (see `share`).
        Where a choice is of channels, several sites share it: those that make so many channels, and
        those that read them.

        Args:
            choice: The value choice.
            make: Builds the module with one value; all values alike but for sizes.
            narrow_input: Whether the value is the number of channels of the input: in a supernet, which
                has as many as the largest value, the module gets the first of them.
            pad_output: Whether the value is the number of channels of the output: in a supernet it
                gets channels of zeros up to the largest value.
        """

    def sum(self, branches: Sequence[nn.Module], choice: InputChoice | None = None) -> nn.Module:
        """A module that takes all states of a node, and adds up what each branch makes of its own.

        For nodes that all states before them reach, so that there is nothing to choose.

        Args:
            branches: What stands between each state and the node, in the order of the states.
            choice: All states, under the name by which a supernet may weigh them (`InputChoice.weighed`);
                no part of an architecture.
        """
        return SumOfInputs(branches, range(len(branches)))

    @final
    def repeat(self, choice: ValueChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        """The first d of several blocks, one after the other, where `choice` decides d.

        Args:
            choice: The numbers of blocks.
            make: Builds the block of an index, from 0 on.

        Raises:
            ComponentError: A number of blocks is negative.
        """
        always = min(choice.values)
        if always < 0:
            raise ComponentError(f"depth choice `{choice.id}` must not be negative, but has {choice.values}")
        blocks = [make(index) for index in range(always)]
        others = self.value(choice, lambda depth: nn.Sequential(*map(make, range(always, depth))))
        return nn.Sequential(*blocks, others)


@final
class Nesting:
    """Where a blueprint asks for each choice: inside which candidates of which other choices.

    Attributes:
        choices: The choices by id, in the order of the blueprint.
        conditions: By choice id the (choice, candidate) pairs around each of its sites; none where the choice
            has but a name.
    """

    def __init__(self) -> None:
        self.choices: dict[str, Choice] = {}
        self.conditions: dict[str, set[frozenset[tuple[str, str]]]] = {}
        self._around: list[tuple[str, str]] = []

    def name(self, choice: Choice) -> None:
        """Note a choice that decides nothing of an architecture, for it is nowhere in effect.

        Raises:
            ComponentError: The choice is another one elsewhere.
        """
        _note(self.choices, choice)
        self.conditions.setdefault(choice.id, set())

    def note(self, choice: Choice) -> None:
        """Note a site.

        Raises:
            ComponentError: The choice is another one elsewhere, or the site lies in the choice itself.
        """
        _note(self.choices, choice)
        if any(choice.id == outer for outer, _ in self._around):
            raise ComponentError(
                f"choice `{choice.id}` must not be asked for inside one of its own candidates, where it is "
                "decided already; use the candidate's name or value there"
            )
        self.conditions.setdefault(choice.id, set()).add(frozenset(self._around))

    @contextmanager
    def inside(self, choice: Choice, candidate: str) -> Iterator[None]:
        """What is noted here lies in a candidate."""
        self._around.append((choice.id, candidate))
        try:
            yield
        finally:
            self._around.pop()


@final
class SupernetFiller(Filler):
    """Puts a mixture at each site; sites with one choice id share one mixed op.

    Args:
        make_mixed_op: Builds the mixed op of a choice.
        fused: Whether a node's inputs may be computed together (see `FusedSum`).
    """

    mixed = True

    def __init__(self, make_mixed_op: MakeMixedOp, *, fused: bool = True) -> None:
        self._make_mixed_op, self._fused = make_mixed_op, fused
        self.nesting = Nesting()
        self.mixed_ops: dict[str, MixedOp] = {}

    @property
    def choices(self) -> dict[str, Choice]:
        return self.nesting.choices

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        mixed_op = self._mixed_op(choice)
        return MixedLayer(mixed_op, [self._made(choice, name, make, name) for name in choice.candidates])

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        self.nesting.note(choice)
        branches = [self._made(choice, name, make, index) for index, name in enumerate(choice.candidates)]
        is_settled = bool(choice.edges) or choice.num_chosen == len(choice.candidates)
        if is_settled and not choice.weighed:
            return self.sum(branches)
        return MixedInput(self._mixed_op(choice), branches)

    def sum(self, branches: Sequence[nn.Module], choice: InputChoice | None = None) -> nn.Module:
        if choice is not None and choice.weighed:
            self.nesting.name(choice)
            return MixedInput(self._made_once(choice), branches)
        if self._fused and FusedSum.takes(branches):
            return FusedSum(branches)
        return super().sum(branches)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        self.nesting.note(choice)
        return tuple(range(len(choice.candidates)))

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        mixed_op, largest = self._mixed_op(choice), max(choice.values)
        source = self._made(choice, str(largest), make, largest)

        def candidate(value: int) -> nn.Module:
            module = self._made(choice, str(value), make, value)
            share(module, source, f"value choice `{choice.id}`: {value}")
            if not (narrow_input or pad_output):
                return module
            return Resized(module, value if narrow_input else None, largest if pad_output else None)

        return MixedLayer(mixed_op, [source if v == largest else candidate(v) for v in choice.values])

    def _made(self, choice: Choice, name: str, make: Callable[[Given], nn.Module], given: Given) -> nn.Module:
        with self.nesting.inside(choice, name):
            return make(given)

    def _mixed_op(self, choice: Choice) -> MixedOp:
        self.nesting.note(choice)
        return self._made_once(choice)

    def _made_once(self, choice: Choice) -> MixedOp:
        if choice.id not in self.mixed_ops:
            self.mixed_ops[choice.id] = self._make_mixed_op(choice)
        return self.mixed_ops[choice.id]


@final
class DerivedFiller(Filler):
    """Puts at each site what a genotype keeps there.

    Args:
        genotype: Must keep legal candidates for each choice that the blueprint asks for.

    Attributes:
        decided: What stands where: choice id, candidate and module of each site.
    """

    mixed = False

    def __init__(self, genotype: Genotype) -> None:
        self._genotype = genotype
        self.choices: dict[str, Choice] = {}
        self.decided: list[tuple[str, str, nn.Module]] = []

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        return _one_or_sum([self._made(choice, name, make(name)) for name in self._kept(choice)])

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        kept = self.subset(choice)
        return SumOfInputs([make(index) for index in kept], kept)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return tuple(dict.fromkeys(choice.candidates.index(name) for name in self._kept(choice)))

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        (value, *others) = self._kept(choice)
        if others:
            raise FormatError(
                f"genotype: choice `{choice.id}` must keep one of {choice.candidates}, got {[value, *others]}"
            )
        return self._made(choice, value, make(int(value)))

    def _made(self, choice: Choice, name: str, module: nn.Module) -> nn.Module:
        self.decided.append((choice.id, name, module))
        return module

    def _kept(self, choice: Choice) -> tuple[str, ...]:
        _note(self.choices, choice)
        kept = self._genotype.choices.get(choice.id, ())
        if choice.id not in self._genotype.choices:
            count = len(self._genotype.choices)
            raise FormatError(
                f"genotype: choice `{choice.id}` must keep at least one of {choice.derivable}, but is not "
                f"among the {count} choices that the genotype decides; is it the genotype of another space, "
                "or of another number of layers or nodes?"
            )
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

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        (value,) = self._draw(choice)
        return make(int(value))

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
