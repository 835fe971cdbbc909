"""Search spaces: blueprints that ask a filler what stands at each site."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import nn

from nasframe.core.architectures import Architectures
from nasframe.core.block import recompute
from nasframe.core.choice import Choice
from nasframe.core.filler import DerivedFiller, Filler, Nesting, SamplingFiller, SupernetFiller
from nasframe.core.genotype import Genotype
from nasframe.core.graph import Graph
from nasframe.core.json_text import read_bounded
from nasframe.core.mixed_op import MakeMixedOp, mixed_ops
from nasframe.core.model import Model
from nasframe.errors import FormatError, UnsupportedError
from nasframe.registry import Registry


class Space(ABC):
    """A search space for a task; holds no parameters itself."""

    @abstractmethod
    def build(self, filler: Filler) -> nn.Module:
        """Build the network, asking `filler` at each site.

        It is also called on the meta device, where shapes are known and numbers are not, so numbers that
        it needs come from plain Python (or were made in ``__init__``).
        """

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        """Pictures of an architecture by name (one a cell); none unless the space draws itself."""
        return {}

    def key(self, genotype: Genotype) -> str | None:
        """An architecture as the field writes it, shown with the results; None where a space has no keys.

        Raises:
            FormatError: The genotype is not one of this space.
        """
        return None

    def genotype(self, key: str) -> Genotype:
        """The architecture that the field writes so, such as `key` does.

        Raises:
            FormatError: It is none of this space.
        """
        raise FormatError(
            f"genotype: must be JSON, because {type(self).__name__} has no notation of its own, "
            f"got {key!r:.80}"
        )

    def baselines(self) -> Mapping[str, Sequence[Genotype]]:
        """Architectures of the field that a search is measured against, by name.

        Each name is a family of networks built alike, small and large, of which a comparison takes one that
        costs what the found one costs. None unless a space names some.
        """
        return {}


def read_genotype(path: Path, space: Space) -> Genotype:
    """Read an architecture from a file: the JSON that `Genotype.save` writes, or the notation of its space.

    Raises:
        FormatError: It is neither, or none of the space; the message names the file.
    """
    try:
        text = read_bounded(path).decode("utf-8").strip()
        return Genotype.from_json(text) if text[:1] in ("{", "[", "") else space.genotype(text)
    except (UnicodeDecodeError, FormatError) as error:
        raise FormatError(f"{path}: {error}") from error


spaces: Registry[Space] = Registry("spaces", Space, given=("task",))


@runtime_checkable
class Fusable(Protocol):
    """A module that may compute several of its layers together.

    Attributes:
        fused: Whether it does, where that is faster; otherwise one layer after the other.
    """

    fused: bool


def supernet(
    space: Space, mixed_op: MakeMixedOp | str = "softmax", *, fused: bool = True, recomputed: bool = False
) -> Model:
    """Build the supernet of a space: a mixed op for each choice, shared by the choice's sites.

    Args:
        space: The blueprint.
        mixed_op: A registered name, or what builds a mixed op from a choice: a class, a configured
            component.
        fused: Whether a node's inputs (see `FusedSum`) and the layers of a `Fusable` may be computed
            together: equal in value and gradient, faster on the CPU.
        recomputed: Whether activations within a `Block` (a cell, or a site that is in none) are computed
            again in the backward pass instead of being kept: equal in value and gradient, less memory.

    Raises:
        UnsupportedError: The network is to be recomputed, but has no block.
    """
    make: MakeMixedOp = mixed_ops.component(mixed_op) if isinstance(mixed_op, str) else mixed_op
    filler = SupernetFiller(make, fused=fused)
    network = space.build(filler)
    for module in network.modules():
        if hasattr(module, "fused"):  # is `Fusable`; Python takes six times as long to tell so itself
            cast(Fusable, module).fused = fused
    if recomputed:
        _recompute(network)
    return Model(network, filler.choices, filler.mixed_ops, filler.nesting.conditions)


def derived(space: Space, genotype: Genotype, *, recomputed: bool = False) -> Model:
    """Build the network of one architecture, with new weights.

    Args:
        space: The blueprint.
        genotype: What each choice keeps.
        recomputed: As for a supernet.

    Raises:
        FormatError: The genotype does not fit the space.
        UnsupportedError: The network is to be recomputed, but has no block.
    """
    filler = DerivedFiller(genotype)
    network = space.build(filler)
    filler.check_complete()
    if recomputed:
        _recompute(network)
    return Model(network, decided=filler.decided)


def _recompute(network: nn.Module) -> None:
    if not recompute(network):
        raise UnsupportedError(
            "recomputed: the network must have a block, whose activations are computed again, but has none; "
            "leave it out, or let the parts that the space is built of be a `Block`"
        )


def sample(space: Space, generator: torch.Generator) -> Genotype:
    """Draw an architecture: each choice uniformly among what a genotype may keep."""
    filler = SamplingFiller(generator)
    with torch.device("meta"):
        space.build(filler)
    return filler.genotype


def choices_of(space: Space) -> dict[str, Choice]:
    """All choices of a space by id, in the order of the blueprint."""
    return nesting_of(space).choices


def nesting_of(space: Space) -> Nesting:
    """The choices of a space, and inside which candidates of which others the blueprint asks for them."""
    filler = SupernetFiller(mixed_ops["uniform_path"])  # which has no parameters to make
    with torch.device("meta"):
        space.build(filler)
    return filler.nesting


def architectures_of(space: Space) -> Architectures:
    """The architectures of a space, to draw and to change."""
    nesting = nesting_of(space)
    return Architectures(nesting.choices, nesting.conditions)
