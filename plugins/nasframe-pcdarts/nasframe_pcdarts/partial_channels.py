"""A cell space whose supernet searches on a part of the channels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, final

import torch
from torch import nn
from torch.nn import functional

from nasframe import Component
from nasframe.core import Filler, Genotype, Graph, InputChoice, LayerChoice, Space, Task, ValueChoice, spaces
from nasframe.errors import ComponentError, UnsupportedError
from nasframe.types import PositiveInt

_DARTS: Final = spaces.component("darts")
_MakeCandidate = Callable[[str], nn.Module]


@spaces.register("pcdarts")
@final
class PartialChannels(Space):
    """A cell space with partial channel connections (Xu et al. 2020, arXiv 1907.05737, section 3.2, eq. 2).

    In the supernet the candidates of each edge see the first 1/K of the channels; the others pass by, and
    the two are shuffled. The inputs of a node are weighed (edge normalization, section 3.3), also where all
    of them are kept, as in `nas_bench_201`: take the mixed op `pcdarts`, whose betas do that, and the
    deriver `pcdarts`. Derived networks are those of the space inside.

    Departure from the authors' code: where an edge halves maps of odd size, what passes by is pooled
    to the larger half, as its candidates do.

    Args:
        of: The space inside; its edges are layer choices, and it has a setting `channels`.
        divisor: K; candidates of the supernet see 1/K of the channels. With 1 only the inputs of nodes
            differ from the space inside.
        weighed: Whether inputs of nodes are weighed; if not, these are the partial channels of DrNAS (Chen
            et al. 2021, arXiv 2006.10355, section 3.4), for any mixed op and deriver.
    """

    def __init__(
        self,
        task: Task,
        *,
        of: Component[Space] = _DARTS,
        divisor: PositiveInt = 4,
        weighed: bool = True,
    ) -> None:
        self._divisor, self._weighed = divisor, weighed
        self._wide, self._narrow = of(task), _narrowed(of, divisor)(task)

    def build(self, filler: Filler) -> nn.Module:
        if not filler.mixed:
            return self._wide.build(filler)
        sites = _Sites()
        with torch.device("meta"):  # its network is not needed, but what its sites would hold
            self._narrow.build(sites)
        return self._wide.build(_PartialFiller(filler, sites.found, self._divisor, weighed=self._weighed))

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        return self._wide.graphs(genotype)

    def key(self, genotype: Genotype) -> str | None:
        return self._wide.key(genotype)


def _narrowed(space: Component[Space], divisor: int) -> Component[Space]:
    """The same space with a part of the channels."""
    known = spaces.signature(space.name).settings
    if "channels" not in known:
        raise UnsupportedError(
            f"space pcdarts: `of` must have a setting `channels`, but `{space.name}` has none; choose another"
        )
    channels = space.settings.get("channels", known["channels"].default)
    if channels % divisor:
        raise UnsupportedError(
            f"space pcdarts: of.channels must be a multiple of the divisor {divisor}, got {channels}; "
            "change one of the two"
        )
    return spaces.component(space.name, **{**space.settings, "channels": channels // divisor})


@final
class _Sites(Filler):
    """Notes what makes the candidates of each site of layers, in the order of the blueprint."""

    mixed = True

    def __init__(self) -> None:
        self.found: list[tuple[str, _MakeCandidate]] = []

    def layer(self, choice: LayerChoice, make: _MakeCandidate) -> nn.Module:
        self.found.append((choice.id, make))
        return nn.Identity()

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return nn.ModuleList(make(index) for index in range(len(choice.candidates)))

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return tuple(range(len(choice.candidates)))

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        return nn.Identity()


@final
class _PartialFiller(Filler):
    """Puts the candidates of the narrow network at the sites of the wide one."""

    mixed = True

    def __init__(
        self, filler: Filler, sites: list[tuple[str, _MakeCandidate]], divisor: int, *, weighed: bool
    ) -> None:
        self._filler, self._divisor, self._weighed = filler, divisor, weighed
        self._sites: Iterator[tuple[str, _MakeCandidate]] = iter(sites)

    def layer(self, choice: LayerChoice, make: _MakeCandidate) -> nn.Module:
        choice_id, make_narrow = next(self._sites, (None, make))
        if choice_id != choice.id:
            raise ComponentError(
                f"space pcdarts: the space inside must have the same sites whatever its channels, but has "
                f"`{choice.id}` where it has `{choice_id}` with fewer channels"
            )
        site = self._filler.layer(choice, make_narrow)
        return site if self._divisor == 1 else PartialConnection(site, self._divisor)

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return self._filler.inputs(replace(choice, weighed=self._weighed and bool(choice.edges)), make)

    def sum(self, branches: Sequence[nn.Module], choice: InputChoice | None = None) -> nn.Module:
        if choice is not None and len(branches) > 1:  # the share of a single state is always 1
            choice = replace(choice, weighed=self._weighed)
        return self._filler.sum(branches, choice)

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
        return self._filler.value(choice, make, narrow_input=narrow_input, pad_output=pad_output)


@final
class PartialConnection(nn.Module):
    """Sends the first 1/K of the channels through a site, pools the others if need be, and shuffles.

    Args:
        site: Maps B C/K H W to B C/K H/stride W/stride.
        divisor: K, at least 2.
    """

    def __init__(self, site: nn.Module, divisor: int) -> None:
        super().__init__()
        self.site, self._divisor = site, divisor

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        count = x_BCHW.shape[1] // self._divisor
        seen, passing = x_BCHW[:, :count], x_BCHW[:, count:]
        mixed = self.site(seen)
        if mixed.shape[2:] != passing.shape[2:]:
            passing = functional.max_pool2d(passing, kernel_size=2, ceil_mode=True)
        return functional.channel_shuffle(torch.cat([mixed, passing], dim=1), self._divisor)
