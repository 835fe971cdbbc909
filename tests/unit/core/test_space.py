"""Supernet, derived network, drawing and choices of one blueprint."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from nasframe.core import (
    Choice,
    Filler,
    Genotype,
    InputChoice,
    LayerChoice,
    Space,
    ValueChoice,
    choices_of,
    derived,
    mixed_ops,
    sample,
    supernet,
)
from nasframe.errors import FormatError
from nasframe.mixed_ops.softmax import Softmax

LAYER = LayerChoice("layer", ("none", "linear", "tanh"), search_only=("none",))
WIDTH = ValueChoice("width", ("2", "4", "8"))
MERGE = InputChoice("merge", ("0", "1", "2"), num_chosen=2)
ALL = InputChoice("all", ("0", "1"), num_chosen=2)


class _Zero(nn.Module):
    always_zero = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


class _Network(nn.Module):
    """Two sites of one layer choice, a value choice, and two input choices, one of them with no choice."""

    def __init__(self, filler: Filler) -> None:
        super().__init__()
        self.first, self.second = filler.layer(LAYER, _layer), filler.layer(LAYER, _layer)
        self.bottleneck = filler.value(WIDTH, _bottleneck)
        self.merge = filler.inputs(MERGE, lambda _: nn.Identity())
        self.all = filler.inputs(ALL, lambda _: nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.first(x)
        two = self.second(one)
        total: torch.Tensor = self.all([x, self.merge([one, two, self.bottleneck(two)])])
        return total


def _layer(name: str) -> nn.Module:
    return {"none": _Zero(), "linear": nn.Linear(3, 3), "tanh": nn.Tanh()}[name]


def _bottleneck(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3))


class _Blueprint(Space):
    def build(self, filler: Filler) -> nn.Module:
        return _Network(filler)


SPACE = _Blueprint()


def _genotype(**changes: Sequence[str]) -> Genotype:
    kept = {"layer": ("linear",), "width": ("4",), "merge": ("0", "2"), "all": ("0", "1"), **changes}
    return Genotype({name: tuple(names) for name, names in kept.items()})


def test_the_choices_are_those_of_the_blueprint_in_its_order() -> None:
    assert list(choices_of(SPACE).items()) == [
        ("layer", LAYER), ("width", WIDTH), ("merge", MERGE), ("all", ALL)
    ]  # fmt: skip


def test_a_supernet_has_a_mixed_op_for_each_choice_that_decides_something() -> None:
    model = supernet(SPACE)
    assert model.choices == choices_of(SPACE)
    assert [name for name, _ in model.mixed_ops.items()] == ["layer", "width", "merge"]
    assert [tuple(alpha.shape) for alpha in model.parameters_of("alpha")] == [(3,), (3,), (3,)]
    assert model(torch.randn(5, 3)).shape == (5, 3)


def test_a_supernet_takes_a_name_a_class_a_function_or_a_component() -> None:
    def make(choice: Choice) -> Softmax:
        return Softmax(choice, init_std=0.0)

    for mixed_op in ("softmax", Softmax, make, mixed_ops.component("softmax", init_std=0.0)):
        ops = supernet(SPACE, mixed_op).mixed_ops
        assert all(type(op) is Softmax for _, op in ops.items())
    assert not any(op.alpha.any() for _, op in ops.items())


def test_the_supernet_computes_the_mixture_written_out() -> None:
    model = supernet(SPACE).double()
    network, p = model.network, model.choice_weights()
    x = torch.randn(4, 3, dtype=torch.float64)

    def layer(site: nn.Module, x: torch.Tensor) -> torch.Tensor:
        _, linear, tanh = site.candidates
        return p["layer"][1] * (x @ linear.weight.T + linear.bias) + p["layer"][2] * tanh(x)

    one = layer(network.first, x)
    two = layer(network.second, one)
    three = sum(
        share * each(two) for share, each in zip(p["width"], network.bottleneck.candidates, strict=True)
    )
    merged = p["merge"][0] * one + p["merge"][1] * two + p["merge"][2] * three
    torch.testing.assert_close(model(x), x + merged)


def test_a_derived_network_is_what_its_genotype_says_and_no_more() -> None:
    model = derived(SPACE, _genotype())
    network = model.network
    x = torch.randn(4, 3)
    one = network.first(x)
    expected = x + one + network.bottleneck(network.second(one))
    torch.testing.assert_close(model(x), expected)
    assert model.kinds() == ("weight",)
    # two linear layers 3x3, and one 3x4 with its way back, each with biases
    assert sum(weight.numel() for weight in model.parameters()) == 2 * 12 + 16 + 15
    assert model.choices == {}
    assert len(model.mixed_ops) == 0


def test_sites_of_one_choice_have_layers_of_their_own() -> None:
    network = derived(SPACE, _genotype()).network
    assert not torch.equal(network.first.weight, network.second.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": ["none"]}, "choice `layer` must keep some of"),
        ({"layer": []}, "choice `layer` must keep at least one of"),
        ({"width": ["3"]}, "choice `width` must keep some of"),
        ({"other": ["0"]}, "no choice `other`"),
    ],
)
def test_a_genotype_of_another_space_is_refused(changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        derived(SPACE, _genotype(**changes))


def test_a_drawing_is_complete_legal_and_follows_its_generator_alone() -> None:
    def draw(seed: int) -> Genotype:
        torch.manual_seed(len(drawn))
        return sample(SPACE, torch.Generator().manual_seed(seed))

    drawn: list[Genotype] = []
    for seed in range(30):
        drawn.append(draw(seed))
        assert draw(seed) == drawn[-1]
        derived(SPACE, drawn[-1])
    assert {genotype["layer"] for genotype in drawn} == {("linear",), ("tanh",)}
    assert {genotype["width"] for genotype in drawn} == {("2",), ("4",), ("8",)}
    assert {genotype["merge"] for genotype in drawn} == {("0", "1"), ("0", "2"), ("1", "2")}
    assert {genotype["all"] for genotype in drawn} == {("0", "1")}


def test_looking_at_a_space_moves_no_random_state() -> None:
    before = torch.get_rng_state()
    choices_of(SPACE)
    sample(SPACE, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_space_without_pictures_has_none() -> None:
    assert SPACE.graphs(_genotype()) == {}
