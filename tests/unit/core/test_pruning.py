"""Which candidates a stage goes on with, and the space of these."""

import pytest
import torch

from nasframe.core import (
    Filler,
    InputChoice,
    LayerChoice,
    Pruned,
    Space,
    Task,
    ValueChoice,
    choices_of,
    derived,
    generator_for,
    sample,
    strongest,
    supernet,
)
from nasframe.spaces.darts import Darts

TASK = Task((1, 8, 8), 3)
OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
DARTS = Darts(TASK, channels=2, cells=3, nodes=2, operations=OPERATIONS)
EDGE = LayerChoice("edge", ("none", "a", "b", "c"), search_only=("none",))


@pytest.mark.parametrize(
    ("weights", "num_kept", "kept"),
    [
        ((0.5, 0.1, 0.3, 0.1), 2, ("none", "b")),
        ((0.5, 0.1, 0.3, 0.1), 3, ("none", "a", "b")),  # of a and c, which are equal, the first
        ((0.5, 0.1, 0.3, 0.1), 1, ("b",)),  # none may not be kept, and so is not all that is left
        ((0.1, 0.2, 0.3, 0.4), 2, ("b", "c")),  # none goes like any other
        ((0.1, 0.2, 0.3, 0.4), 9, ("none", "a", "b", "c")),
    ],
)
def test_the_strongest_are_left_in_the_order_of_the_choice(weights, num_kept, kept):
    assert strongest({"edge": EDGE}, {"edge": weights}, num_kept) == {"edge": kept}


def test_a_choice_has_at_least_what_a_genotype_keeps():
    choice = LayerChoice("pair", ("none", "a", "b", "c"), num_chosen=2, search_only=("none",))
    assert strongest({"pair": choice}, {"pair": (0.4, 0.3, 0.2, 0.1)}, 1) == {"pair": ("a", "b")}


def test_inputs_and_choices_without_weights_stay():
    choices = {"edge": EDGE, "node": InputChoice("node", ("0", "1"))}
    assert strongest(choices, {"node": (0.9, 0.1)}, 1) == {}


def test_a_pruned_space_has_the_candidates_that_are_left_and_no_others():
    kept = {"normal_2_0": ("skip_connect", "none"), "reduce_3_1": ("sep_conv_3x3",)}
    space = Pruned(DARTS, kept)
    whole, pruned = choices_of(DARTS), choices_of(space)
    assert pruned.keys() == whole.keys()
    assert pruned["normal_2_0"].candidates == ("none", "skip_connect")  # in the order that they had
    assert pruned["normal_2_0"].search_only == ("none",)
    assert (pruned["reduce_3_1"].candidates, pruned["reduce_3_1"].search_only) == (("sep_conv_3x3",), ())
    assert all(pruned[name] == whole[name] for name in whole.keys() - kept.keys())
    model = supernet(space)
    assert {name: len(op.weights()) for name, op in model.mixed_ops.items() if name in kept} == {
        "normal_2_0": 2,
        "reduce_3_1": 1,
    }
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_its_architectures_are_some_of_the_whole_space():
    space = Pruned(DARTS, {f"normal_{edge}": ("none", "max_pool_3x3") for edge in ("2_0", "2_1")})
    found = [sample(space, generator_for(0, index)) for index in range(5)]
    for genotype in found:
        assert genotype["normal_2_0"] == ("max_pool_3x3",)
        derived(DARTS, genotype)
        assert space.graphs(genotype) == DARTS.graphs(genotype)


class _Widths(Space):
    def build(self, filler: Filler) -> torch.nn.Module:
        width = ValueChoice.of("width", (6, 3, 2))
        return torch.nn.Sequential(
            filler.value(width, lambda size: torch.nn.Linear(4, size), pad_output=True),
            filler.value(width, lambda size: torch.nn.Linear(size, 5), narrow_input=True),
        )


def test_values_are_left_out_with_the_weights_that_they_alone_had():
    model = supernet(Pruned(_Widths(), {"width": ("3", "2")}))
    shapes = sorted(tuple(weight.shape) for weight in model.parameters_of("weight"))
    assert shapes == [(3,), (3, 4), (5,), (5, 3)]
    assert model(torch.randn(2, 4)).shape == (2, 5)
