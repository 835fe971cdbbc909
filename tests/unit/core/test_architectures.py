"""Architectures that are drawn and changed stay architectures of their space."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import sqrt

import pytest
import torch
from torch import nn

from nasframe import testing
from nasframe.core import (
    Architectures,
    Filler,
    Genotype,
    InputChoice,
    LayerChoice,
    Space,
    Task,
    ValueChoice,
    architectures_of,
    derived,
    generator_for,
    num_architectures,
    spaces,
)
from nasframe.errors import UnsupportedError

TASK = Task((3, 16, 16), 5)
SPACES: dict[str, Callable[[], Space]] = {
    "example": testing.example_space,
    "darts": partial(spaces["darts"], TASK, channels=4, cells=3, nodes=2, stem_multiplier=1),
    "macro": partial(spaces["macro"], TASK, channels=2, stages=(1, 2), features=8),
    "mobile_elastic": partial(
        spaces["mobile_elastic"], TASK,
        kernel_sizes=(3, 5), expansions=(2, 3), widths=((4, 6), (6,)), depths=((1, 2), (2,)), strides=(2, 1),
        stem="cifar", stem_channels=4, first_channels=3, features=8,
    ),
}  # fmt: skip


class Nested(Space):
    """A depth of 0 or 1, and inside it a block that asks for two further choices."""

    def build(self, filler: Filler) -> nn.Module:
        def block(index: int) -> nn.Module:
            inner = filler.layer(LayerChoice("inner", ("x", "y", "z")), lambda _: nn.Linear(4, 4))
            merge = filler.inputs(
                InputChoice("merge", ("0", "1", "2"), num_chosen=2), lambda _: nn.Identity()
            )
            return nn.Sequential(inner, _Thrice(merge))

        return nn.Sequential(filler.repeat(ValueChoice.of("depth", (0, 1)), block))


class _Thrice(nn.Module):
    def __init__(self, merge: nn.Module) -> None:
        super().__init__()
        self.merge = merge

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        y_BC: torch.Tensor = self.merge([x_BC, x_BC, x_BC])
        return y_BC


NESTED = [
    Genotype({"depth": ("0",)}),
    *(
        Genotype({"depth": ("1",), "inner": (inner,), "merge": merge})
        for inner in "xyz"
        for merge in (("0", "1"), ("0", "2"), ("1", "2"))
    ),
]


def differing(one: Genotype, other: Genotype) -> list[str]:
    """Choices that both decide, and not alike."""
    return [name for name in one.choices if name in other.choices and set(one[name]) != set(other[name])]


@pytest.mark.parametrize("name", SPACES)
def test_what_is_drawn_changed_and_crossed_is_an_architecture_of_the_space(name: str) -> None:
    space, generator = SPACES[name](), generator_for(0, name)
    known = architectures_of(space)
    for _ in range(6):
        one, other = known.sample(generator), known.sample(generator)
        child = known.cross(one, other, generator)
        assert all(
            kept in (one.choices.get(key), other.choices.get(key)) for key, kept in child.choices.items()
        )
        for genotype in (one, child, known.mutate(one, generator), known.redraw(one, 0.5, generator)):
            derived(space, genotype)


@pytest.mark.parametrize("name", SPACES)
def test_a_mutation_changes_one_choice_and_what_it_brings_into_effect(name: str) -> None:
    known, generator = architectures_of(SPACES[name]()), generator_for(1, name)
    for _ in range(30):
        one = known.sample(generator)
        other = known.mutate(one, generator)
        (changed,) = differing(one, other)
        assert len(set(one[changed]) - set(other[changed])) == 1


def test_every_architecture_of_a_nested_space_is_drawn_and_reached_by_mutations() -> None:
    known, generator = architectures_of(Nested()), generator_for(2)
    assert num_architectures(Nested()) == len(NESTED)
    assert {known.sample(generator) for _ in range(300)} == set(NESTED)
    here, seen = NESTED[0], set()
    for _ in range(600):
        here = known.mutate(here, generator)
        seen.add(here)
    assert seen == set(NESTED)


def test_neighbors_are_what_differs_in_one_kept_candidate() -> None:
    known, generator = architectures_of(Nested()), generator_for(3)
    here = Genotype({"depth": ("1",), "inner": ("x",), "merge": ("0", "1")})
    expected = {
        NESTED[0],
        Genotype({"depth": ("1",), "inner": ("y",), "merge": ("0", "1")}),
        Genotype({"depth": ("1",), "inner": ("z",), "merge": ("0", "1")}),
        Genotype({"depth": ("1",), "inner": ("x",), "merge": ("1", "2")}),
        Genotype({"depth": ("1",), "inner": ("x",), "merge": ("0", "2")}),
    }
    found = known.neighbors(here, generator)
    assert len(found) == len(expected)
    assert set(found) == expected
    (deeper,) = known.neighbors(NESTED[0], generator)
    assert deeper in NESTED[1:]


def test_a_mutation_is_uniform_over_choices_and_over_what_they_could_keep() -> None:
    known, generator = architectures_of(SPACES["macro"]()), generator_for(4)
    here, count = known.sample(generator), 3000
    seen = Counter(known.mutate(here, generator) for _ in range(count))
    assert len(seen) == 6  # three layers, two other blocks each
    for times in seen.values():
        assert abs(times - count / 6) < 5 * sqrt(count / 6)


def test_redrawing_changes_a_choice_with_the_probability_times_the_chance_of_another() -> None:
    known, generator, count = architectures_of(SPACES["macro"]()), generator_for(5), 2000
    here = known.sample(generator)
    changed = sum(len(differing(here, known.redraw(here, 0.3, generator))) for _ in range(count))
    expected = 3 * count * 0.3 * 2 / 3  # what is drawn may be what it was, one of three
    assert abs(changed - expected) < 5 * sqrt(expected)


def test_where_all_is_known_a_known_one_is_drawn() -> None:
    known = architectures_of(Nested())
    left = known.sample_beside(set(NESTED[1:]), generator_for(6))
    assert left == NESTED[0]
    assert known.sample_beside(set(NESTED), generator_for(7)) in NESTED


def test_a_space_of_one_architecture_has_no_mutation() -> None:
    only = Architectures({"a": LayerChoice("a", ("x", "none"), search_only=("none",))}, {})
    genotype = only.sample(generator_for(0))
    assert genotype == Genotype({"a": ("x",)})
    assert only.neighbors(genotype, generator_for(0)) == []
    with pytest.raises(UnsupportedError, match="must have architectures that differ in a choice"):
        only.mutate(genotype, generator_for(0))
