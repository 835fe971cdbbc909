"""Fillers: one blueprint, several fillings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from nasframe.core import (
    ALPHA,
    ArchParam,
    Candidate,
    Choice,
    DerivedFiller,
    Filler,
    Genotype,
    InputChoice,
    LayerChoice,
    MixedInput,
    MixedLayer,
    MixedOp,
    Model,
    SamplingFiller,
    Space,
    SumOfInputs,
    SupernetFiller,
    ValueChoice,
    derived,
    supernet,
)
from nasframe.errors import ComponentError, FormatError


class Mean(MixedOp):
    """A mixed op of this test: all candidates count alike."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.zeros(len(choice.candidates)), ALPHA)

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.alpha, 0)

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        outputs = [candidate(*args, **kwargs) for candidate in candidates]
        return sum(weight * output for weight, output in zip(self.weights(), outputs, strict=True))


class Plus(nn.Module):
    """x ↦ 10 x + digit: the output spells the blocks that it went through."""

    def __init__(self, digit: int) -> None:
        super().__init__()
        self.digit = digit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * x + self.digit


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


FACTORS = {"none": 0.0, "one": 1.0, "two": 2.0, "ten": 10.0}
LAYER = LayerChoice("layer", ("none", "one", "two", "ten"), search_only=("none",))
INPUT = InputChoice("input", ("0", "1", "2"), num_chosen=2)
EDGES = InputChoice("node", ("0", "1", "2"), num_chosen=2, edges=("node_0", "node_1", "node_2"))
VALUE = ValueChoice("width", ("1", "3", "5"))
STATES = [torch.tensor(1.0), torch.tensor(20.0), torch.tensor(300.0)]
X = torch.tensor(1.0)


def factor(name: str) -> nn.Module:
    return Times(FACTORS[name])


def node(filler: Filler) -> nn.Module:
    """A node whose inputs pass through a layer choice each."""

    def edge(state: int) -> nn.Module:
        return filler.layer(LayerChoice(EDGES.edges[state], ("one", "two")), factor)

    return filler.inputs(EDGES, edge)


def derive(**choices: tuple[str, ...]) -> DerivedFiller:
    return DerivedFiller(Genotype(choices))


def test_the_supernet_mixes_all_candidates_of_a_layer_choice() -> None:
    site = SupernetFiller(Mean).layer(LAYER, factor)
    assert isinstance(site, MixedLayer)
    assert site(X).item() == pytest.approx((0 + 1 + 2 + 10) / 4)


def test_the_supernet_mixes_all_values_of_a_value_choice() -> None:
    site = SupernetFiller(Mean).value(VALUE, Times)
    assert site(X).item() == pytest.approx((1 + 3 + 5) / 3)


def test_the_supernet_mixes_the_inputs_of_a_choice_without_edges() -> None:
    filler = SupernetFiller(Mean)
    site = filler.inputs(INPUT, lambda _: nn.Identity())
    assert isinstance(site, MixedInput)
    assert site(STATES).item() == pytest.approx(321 / 3)
    assert list(filler.mixed_ops) == ["input"]


def test_the_supernet_adds_up_inputs_that_have_edges_or_are_all_kept() -> None:
    filler = SupernetFiller(Mean)
    assert node(filler)(STATES).item() == pytest.approx(321 * 1.5)
    keeps_all = InputChoice("all", ("0", "1", "2"), num_chosen=3)
    assert filler.inputs(keeps_all, lambda _: nn.Identity())(STATES).item() == 321
    assert sorted(filler.mixed_ops) == ["node_0", "node_1", "node_2"]
    assert {"node", "all"} <= set(filler.choices)


@pytest.mark.parametrize(
    "filler", [SupernetFiller(Mean), DerivedFiller(Genotype()), SamplingFiller(torch.Generator())]
)
def test_a_sum_adds_up_what_each_branch_makes_of_its_state_and_is_no_choice(filler: Filler) -> None:
    total = filler.sum([Times(1), Times(2), Times(10)])
    assert total(STATES).item() == 1 + 2 * 20 + 10 * 300
    assert total([*STATES, torch.tensor(4000.0)]).item() == 1 + 2 * 20 + 10 * 300
    assert filler.choices == {}  # type: ignore[attr-defined]


def test_a_sum_that_is_weighed_is_so_in_the_supernet_alone_and_decides_nothing() -> None:
    states = InputChoice("node", ("0", "1", "2"), num_chosen=3, weighed=True)
    branches = [Times(1), Times(2), Times(10)]
    filler = SupernetFiller(Mean)
    assert filler.sum(branches, states)(STATES).item() == pytest.approx((1 + 2 * 20 + 10 * 300) / 3)
    assert filler.sum(branches, states)(STATES).item() == pytest.approx((1 + 2 * 20 + 10 * 300) / 3)
    assert list(filler.mixed_ops) == ["node"]
    model = Model(nn.Identity(), filler.choices, filler.mixed_ops, filler.nesting.conditions)
    assert not model.decides("node")
    assert model.genotype({"node": ("0", "1", "2")}) == Genotype()
    assert model.architectures().sample(torch.Generator()) == Genotype()
    for other in (DerivedFiller(Genotype()), SamplingFiller(torch.Generator())):
        assert other.sum(branches, states)(STATES).item() == 1 + 2 * 20 + 10 * 300
        assert other.choices == {}


def test_the_supernet_weighs_inputs_that_have_edges_or_are_all_kept_where_the_choice_says_so() -> None:
    filler = SupernetFiller(Mean)
    weighed = replace(EDGES, id="weighed", weighed=True)
    site = filler.inputs(weighed, lambda state: factor(("one", "two", "ten")[state]))
    assert site(STATES).item() == pytest.approx((1 + 2 * 20 + 10 * 300) / 3)
    keeps_all = InputChoice("all", ("0", "1", "2"), num_chosen=3, weighed=True)
    assert filler.inputs(keeps_all, lambda _: nn.Identity())(STATES).item() == pytest.approx(321 / 3)
    assert sorted(filler.mixed_ops) == ["all", "weighed"]


def test_the_supernet_has_every_input_of_a_subset() -> None:
    filler = SupernetFiller(Mean)
    assert filler.subset(INPUT) == (0, 1, 2)
    assert filler.choices == {"input": INPUT}
    assert filler.mixed_ops == {}


def test_sites_of_one_choice_share_its_mixed_op_but_not_their_candidates() -> None:
    filler = SupernetFiller(Mean)
    first, second = filler.layer(LAYER, factor), filler.layer(LAYER, factor)
    assert len(filler.mixed_ops) == 1
    with torch.no_grad():
        filler.mixed_ops["layer"].alpha.copy_(torch.tensor([-100.0, -100, -100, 100]))
    assert first(X).item() == second(X).item() == pytest.approx(10)
    assert first.candidates[1] is not second.candidates[1]
    assert not list(first.parameters())


@pytest.mark.parametrize(
    "filler", [SupernetFiller(Mean), SamplingFiller(torch.Generator()), derive(a=("one",))]
)
def test_one_id_for_two_choices_is_refused(filler: Filler) -> None:
    filler.layer(LayerChoice("a", ("one", "two")), factor)
    with pytest.raises(ComponentError, match="choice `a` must be the same at each of its sites"):
        filler.layer(LayerChoice("a", ("two", "one")), factor)


def test_a_derived_network_has_the_kept_candidate_alone() -> None:
    built: list[str] = []

    def make(name: str) -> nn.Module:
        built.append(name)
        return factor(name)

    site = derive(layer=("two",)).layer(LAYER, make)
    assert isinstance(site, Times)
    assert site(X).item() == 2
    assert built == ["two"]
    assert derive(width=("5",)).value(VALUE, Times)(X).item() == 5


def test_a_derived_network_reads_the_kept_inputs_alone() -> None:
    site = node(derive(node=("2", "0"), node_2=("two",), node_0=("one",)))
    assert isinstance(site, SumOfInputs)
    assert site(STATES).item() == 2 * 300 + 1
    assert len(site.branches) == 2


def test_candidates_kept_together_are_added_up() -> None:
    assert derive(layer=("two", "ten")).layer(LAYER, factor)(X).item() == 12
    twice = node(derive(node=("1", "1"), node_1=("one", "two")))
    assert twice(STATES).item() == 3 * 20


def test_a_derived_subset_comes_in_the_order_of_the_genotype() -> None:
    assert derive(input=("2", "0")).subset(INPUT) == (2, 0)


@pytest.mark.parametrize("choices", [{}, {"layer": ()}])
def test_a_genotype_that_leaves_a_choice_open_is_refused(choices: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(FormatError, match="choice `layer` must keep at least one of"):
        derive(**choices).layer(LAYER, factor)


def test_a_genotype_that_lacks_a_layer_is_told_to_be_of_another_space() -> None:
    with pytest.raises(FormatError, match=r"`layer` .* not among the 1 choices .* another number of layers"):
        derive(input=("2", "0")).layer(LAYER, factor)


@pytest.mark.parametrize("kept", [("none",), ("hundred",), ("one", "none")])
def test_a_genotype_that_keeps_what_cannot_be_kept_is_refused(kept: tuple[str, ...]) -> None:
    with pytest.raises(FormatError, match="choice `layer` must keep some of"):
        derive(layer=kept).layer(LAYER, factor)


def test_a_layer_is_built_with_one_value() -> None:
    with pytest.raises(FormatError, match=r"choice `width` must keep one of .*, got \['1', '5'\]"):
        derive(width=("1", "5")).value(VALUE, Times)


DEPTH = ValueChoice.of("depth", (4, 1, 2))


def test_a_repetition_is_the_first_blocks_in_their_order() -> None:
    def built(filler: Filler) -> float:
        return float(filler.repeat(DEPTH, lambda index: Plus(index + 1))(torch.tensor(0.0)).detach())

    assert built(derive(depth=("4",))) == 1234
    assert built(derive(depth=("1",))) == 1
    assert built(derive(depth=("2",))) == 12
    assert built(SupernetFiller(Mean)) == pytest.approx((1234 + 1 + 12) / 3)
    for seed in range(9):
        filler = SamplingFiller(torch.Generator().manual_seed(seed))
        depth = {1: "1", 12: "2", 1234: "4"}
        assert (depth[int(built(filler))],) == filler.genotype["depth"]


def test_no_block_at_all_hands_the_input_on() -> None:
    choice = ValueChoice.of("depth", (0, 1))
    assert derive(depth=("0",)).repeat(choice, Plus)(X) == X


def test_blocks_of_a_repetition_have_layers_of_their_own_and_few_of_them_are_the_first_of_many() -> None:
    site = SupernetFiller(Mean).repeat(DEPTH, lambda _: nn.Linear(1, 1))
    # the first block stands in every architecture, and the longest has three more
    assert len(list(site.parameters())) == 2 * 4


@pytest.mark.parametrize("filler", [SupernetFiller(Mean), derive(depth=("-1",))])
def test_a_negative_number_of_blocks_is_refused(filler: Filler) -> None:
    with pytest.raises(ComponentError, match=r"depth choice `depth` must not be negative, but has \(1, -1\)"):
        filler.repeat(ValueChoice.of("depth", (1, -1)), Plus)


def test_a_choice_inside_itself_is_refused() -> None:
    filler = SupernetFiller(Mean)
    with pytest.raises(
        ComponentError, match="`layer` must not be asked for inside one of its own candidates"
    ):
        filler.layer(LAYER, lambda _: filler.layer(LAYER, factor))


@pytest.mark.parametrize(
    ("values", "message"),
    [(("1", "x"), "whole numbers"), (("3", "03"), "whole numbers"), (("1", "1"), "distinct")],
)
def test_values_are_distinct_whole_numbers(values: tuple[str, ...], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        ValueChoice("width", values)


def test_a_value_choice_keeps_one_value() -> None:
    with pytest.raises(ComponentError, match="value choice `width` must keep one value, but keeps 2"):
        ValueChoice("width", ("1", "2"), num_chosen=2)


def test_a_genotype_that_decides_what_nobody_asked_is_refused() -> None:
    filler = derive(layer=("one",), other=("x",), another=("y",))
    filler.layer(LAYER, factor)
    with pytest.raises(FormatError, match="the space has no choice `another`, `other`"):
        filler.check_complete()


def test_a_choice_below_an_input_that_was_not_kept_may_stay_open() -> None:
    filler = derive(node=("0",), node_0=("one",))
    node(filler)
    filler.check_complete()


def test_a_sample_decides_exactly_what_its_network_has() -> None:
    for seed in range(20):
        filler = SamplingFiller(torch.Generator().manual_seed(seed))
        expected = node(filler)(STATES)
        kept = filler.genotype["node"]
        assert len(set(kept)) == 2
        assert set(filler.genotype.choices) == {"node", *(f"node_{state}" for state in kept)}
        again = DerivedFiller(filler.genotype)
        assert node(again)(STATES) == expected
        again.check_complete()


def test_an_architecture_has_the_choices_that_are_in_effect_alone() -> None:
    class Nested(Space):
        def build(self, filler: Filler) -> nn.Module:
            inner = LayerChoice("inner", ("one", "two"))
            outer = LayerChoice("outer", ("inner", "none"))

            def block(index: int) -> nn.Module:
                return filler.layer(LayerChoice(f"block_{index}", ("one", "two")), factor)

            return nn.Sequential(
                filler.layer(
                    outer, lambda name: filler.layer(inner, factor) if name == "inner" else factor(name)
                ),
                filler.repeat(DEPTH, block),
            )

    space = Nested()
    model = supernet(space, Mean)
    kept = {choice.id: choice.candidates[:1] for choice in model.choices.values()}
    blocks = {f"block_{index}" for index in range(4)}
    assert set(model.genotype(kept).choices) == {"outer", "inner", "depth", *blocks}
    smaller = {**kept, "outer": ("none",), "depth": ("2",)}
    assert set(model.genotype(smaller).choices) == {"outer", "depth", "block_0", "block_1"}
    for each in (kept, smaller):
        derived(space, model.genotype(each))
    with pytest.raises(FormatError, match="no choice `block_2`"):
        derived(space, Genotype(smaller | {"inner": ()}))


def test_a_sample_draws_a_choice_once_for_all_its_sites() -> None:
    for seed in range(10):
        filler = SamplingFiller(torch.Generator().manual_seed(seed))
        first, second = filler.layer(LAYER, factor), filler.layer(LAYER, factor)
        assert first(X) == second(X)
        assert filler.subset(INPUT) == filler.subset(INPUT)


def test_a_sample_is_uniform_over_what_may_be_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = dict.fromkeys(FACTORS, 0)
    pairs: dict[tuple[str, ...], int] = {}
    for _ in range(900):
        filler = SamplingFiller(generator)
        filler.layer(LAYER, factor)
        filler.subset(INPUT)
        counts[filler.genotype["layer"][0]] += 1
        pairs[filler.genotype["input"]] = pairs.get(filler.genotype["input"], 0) + 1
    assert counts.pop("none") == 0
    margin = 4 * (900 * 1 / 3 * 2 / 3) ** 0.5
    assert all(abs(count - 300) < margin for count in counts.values())
    assert set(pairs) == {("0", "1"), ("0", "2"), ("1", "2")}
    assert all(abs(count - 300) < margin for count in pairs.values())


def test_a_sample_depends_on_its_generator_alone() -> None:
    def drawn(seed: int) -> Genotype:
        filler = SamplingFiller(torch.Generator().manual_seed(seed))
        node(filler)
        filler.value(VALUE, Times)
        return filler.genotype

    state = torch.get_rng_state()
    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(20)}) > 1
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_supernet_is_mixed() -> None:
    assert [each.mixed for each in (SupernetFiller, DerivedFiller, SamplingFiller)] == [True, False, False]
