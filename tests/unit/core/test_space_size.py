"""The number of architectures, against enumeration and published figures."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasframe.core import (
    Choice,
    Filler,
    Genotype,
    InputChoice,
    LayerChoice,
    Space,
    Task,
    ValueChoice,
    num_architectures,
)
from nasframe.spaces.darts import Darts
from nasframe.spaces.macro import Macro
from nasframe.spaces.mobile import Mobile
from nasframe.spaces.mobile_elastic import MobileElastic

CIFAR = Task((3, 32, 32), 10)


class _Enumerating(Filler):
    """Keeps what it is told, and notes the first choice that it was not told about."""

    mixed = False

    def __init__(self, kept: dict[str, tuple[str, ...]]) -> None:
        self.kept = dict(kept)
        self.asked: Choice | None = None

    def layer(self, choice, make):
        return nn.ModuleList([make(name) for name in self._keep(choice)])

    def inputs(self, choice, make):
        return nn.ModuleList([make(index) for index in self.subset(choice)])

    def subset(self, choice):
        return tuple(choice.candidates.index(name) for name in self._keep(choice))

    def value(self, choice, make, *, narrow_input=False, pad_output=False):
        return nn.ModuleList([make(int(name)) for name in self._keep(choice)])

    def _keep(self, choice):
        if choice.id not in self.kept:
            self.asked = self.asked or choice
        legal = [name for name in choice.candidates if name not in choice.search_only]
        return self.kept.get(choice.id, tuple(legal[: choice.num_chosen]))


def _all_genotypes(space: Space, kept: dict[str, tuple[str, ...]] | None = None) -> Iterator[Genotype]:
    """Every genotype, by building again and again: each time one choice more is decided."""
    filler = _Enumerating(kept or {})
    space.build(filler)
    if filler.asked is None:
        yield Genotype(filler.kept)
        return
    legal = [name for name in filler.asked.candidates if name not in filler.asked.search_only]
    for outcome in itertools.combinations(legal, filler.asked.num_chosen):
        yield from _all_genotypes(space, {**filler.kept, filler.asked.id: outcome})


class _Drawn(Space):
    """A blueprint that is a tree: (choice, {candidate: blueprints inside})."""

    def __init__(self, sites: list) -> None:
        self._sites = sites

    def build(self, filler: Filler) -> nn.Module:
        return self._built(filler, self._sites)

    def _built(self, filler: Filler, sites: list) -> nn.Module:
        return nn.ModuleList([self._site(filler, choice, inside) for choice, inside in sites])

    def _site(self, filler: Filler, choice: Choice, inside: dict[str, list]) -> nn.Module:
        make: Callable[[str], nn.Module] = lambda name: self._built(filler, inside[name])  # noqa: E731
        if isinstance(choice, InputChoice):
            return filler.inputs(choice, lambda index: make(choice.candidates[index]))
        return filler.layer(choice, make)


CHOICES = (
    LayerChoice("one", ("a", "b")),
    LayerChoice("two", ("a", "b", "c"), num_chosen=2),
    LayerChoice("three", ("none", "a", "b"), search_only=("none",)),
    InputChoice("four", ("0", "1", "2"), num_chosen=2),
    LayerChoice("five", ("a", "b", "c")),
)


@st.composite
def _blueprints(draw, around: frozenset[str] = frozenset()):
    """Sites of choices, several of one choice among them, inside candidates of others."""
    free = [choice for choice in CHOICES if choice.id not in around]
    count = draw(st.integers(0 if around else 1, 2)) if free and len(around) < 3 else 0
    chosen = draw(st.lists(st.sampled_from(free), min_size=count, max_size=count)) if count else []
    return [
        (
            choice,
            {
                name: draw(_blueprints(around | {choice.id}))  # type: ignore[call-arg]
                for name in choice.candidates
            },
        )
        for choice in chosen
    ]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(_blueprints())
def test_the_number_is_that_of_all_genotypes_that_there_are(sites):
    space = _Drawn(sites)
    genotypes = list(_all_genotypes(space))
    assert len(set(genotypes)) == len(genotypes)
    assert num_architectures(space) == len(genotypes)


def test_darts_has_as_many_as_its_paper_says():
    # the paper's product over its nodes: pairs among 2, 3, 4, 5 states, times 7 operations for each of two
    cell = 1 * 3 * 6 * 10 * 7**8
    assert cell == 1_037_664_180
    assert num_architectures(Darts(CIFAR, cells=3)) == cell**2
    assert 1e18 < cell**2 < 1.1e18


def test_every_genotype_of_a_small_darts_space_is_counted():
    space = Darts(CIFAR, channels=2, cells=1, nodes=2, operations=("none", "skip_connect", "avg_pool_3x3"))
    assert num_architectures(space) == len(set(_all_genotypes(space))) == 1 * 3 * 2**4


def test_nas_bench_macro_has_6561():
    assert num_architectures(Macro(CIFAR)) == 6_561


def test_a_layer_that_cannot_be_skipped_has_one_candidate_less():
    # of 21 layers 6 change the shape: their 6 kinds of block; the others also have the skip connection
    assert num_architectures(Mobile(CIFAR)) == 6**6 * 7**15


def test_blocks_that_the_depth_does_not_reach_are_not_counted():
    # 3 kernels and 2 expansions a block; 2, 3 or 4 blocks in five stages, one block in the last
    space = MobileElastic(CIFAR)
    assert num_architectures(space) == (6**2 + 6**3 + 6**4) ** 5 * 6


def test_widths_that_stages_share_are_counted_once_and_quickly():
    space = MobileElastic(
        CIFAR, widths=((16, 24), (32, 40), (64, 80)), depths=((2, 3), (2, 3), (1,)), strides=(1, 2, 2)
    )
    assert num_architectures(space) == 2**3 * (6**2 + 6**3) ** 2 * 6


class _Chain(Space):
    """Each value is asked for inside all values of the one before it, as widths of a chain are."""

    def build(self, filler: Filler) -> nn.Module:
        def joint(index: int) -> nn.Module:
            one = ValueChoice.of(f"width_{index}", (1, 2))
            other = ValueChoice.of(f"width_{index + 1}", (1, 2))
            return filler.value(one, lambda a: filler.value(other, lambda b: nn.Linear(a, b)))

        return nn.ModuleList([joint(index) for index in range(30)])


def test_a_chain_of_31_widths_has_two_to_the_31_architectures():
    assert num_architectures(_Chain()) == 2**31


@pytest.mark.parametrize("num_chosen", [1, 2, 3])
def test_a_choice_that_keeps_several_counts_the_sets_that_it_can_keep(num_chosen):
    choice = LayerChoice("only", ("none", "a", "b", "c"), num_chosen, ("none",))
    space = _Drawn([(choice, {name: [] for name in choice.candidates})])
    assert num_architectures(space) == {1: 3, 2: 3, 3: 1}[num_chosen]
