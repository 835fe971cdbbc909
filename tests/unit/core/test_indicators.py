"""Figures of the health of a search, by hand."""

import math

import pytest
import torch

import nasframe
from nasframe.core import (
    Genotype,
    Idle,
    IdleEdges,
    Task,
    idle_edges,
    is_skip,
    kendall_tau,
    mass_of,
    normalized_entropy,
    rank_stability,
    reaches_output,
)
from nasframe.core.genotype import cell_of
from nasframe.ops.drop_path import DropPath
from nasframe.ops.factorized_reduction import FactorizedReduction
from nasframe.spaces.darts import Darts
from nasframe.spaces.nas_bench_201 import NasBench201

TASK = Task((1, 8, 8), 3)
SMALL_201 = NasBench201(TASK, channels=2, cells=1)
DARTS = Darts(
    TASK,
    channels=2,
    cells=3,
    nodes=1,
    operations=("none", "skip_connect", "sep_conv_3x3"),
    search_drop_path=0.2,
)


def test_the_entropy_is_one_of_equal_weights_and_zero_of_a_single_one():
    assert normalized_entropy(torch.ones(5)) == pytest.approx(1)
    assert normalized_entropy(torch.tensor([0.0, 3.0])) == 0
    # a half and two quarters: 1.5 bits of log2(3)
    assert normalized_entropy(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(1.5 / math.log2(3))
    assert normalized_entropy(torch.tensor([0.7])) == 0


def test_tau_counts_pairs_in_order_and_against_it():
    one = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert kendall_tau(one, 10 * one) == pytest.approx(1)
    assert kendall_tau(one, -one) == pytest.approx(-1)
    assert kendall_tau(one, torch.tensor([1.0, 2.0, 4.0, 3.0])) == pytest.approx((5 - 1) / 6)
    # five pairs in order, one tied in the second: 5 / sqrt(6 · 5)
    assert kendall_tau(one, torch.tensor([1.0, 2.0, 3.0, 3.0])) == pytest.approx(5 / math.sqrt(30))
    assert kendall_tau(one, torch.ones(4)) is None


def test_rank_stability_is_the_mean_over_choices_that_have_an_order():
    before = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([1.0, 2.0]), "c": torch.ones(2)}
    now = {"a": torch.tensor([0.1, 0.2]), "b": torch.tensor([2.0, 1.0]), "c": torch.tensor([1.0, 2.0])}
    assert rank_stability(before, now) == 0
    assert rank_stability({"c": torch.ones(2)}, now) is None


def test_a_skip_declares_itself():
    assert is_skip(torch.nn.Identity())
    assert is_skip(FactorizedReduction(2, 2, affine=False))
    assert is_skip(torch.nn.Sequential(FactorizedReduction(2, 2, affine=False), DropPath(0.1)))
    assert not is_skip(torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), DropPath(0.1)))
    assert not is_skip(torch.nn.AvgPool2d(3))


@pytest.mark.parametrize("space", [DARTS, SMALL_201])
def test_candidates_that_compute_nothing_are_found_in_every_kind_of_cell(space):
    model = nasframe.supernet(space)
    idle = Idle.of(model)
    assert Idle.in_space(space) == idle
    assert set(idle.skips) == set(idle.zeros) == set(model.mixed_ops._modules)
    assert set(idle.skips.values()) == {frozenset({"skip_connect"})}
    assert set(idle.zeros.values()) == {frozenset({"none"})}


def test_edges_are_counted_by_kind_of_cell():
    idle = Idle(
        {f"{cell}_2_{state}": frozenset({"skip"}) for cell in ("normal", "reduce") for state in (0, 1)},
        {"normal_2_0": frozenset({"none"})},
    )
    kept = {
        "normal_2": ("0", "1"),
        "normal_2_0": ("none",),
        "normal_2_1": ("skip",),
        "reduce_2_0": ("skip", "conv"),  # a choice may keep several
        "reduce_concat": ("2",),
    }
    normal, reduce = idle_edges(idle, Genotype(kept))
    assert normal == IdleEdges("normal", edges=2, skips=1, zeros=1)
    assert reduce == IdleEdges("reduce", edges=2, skips=1, zeros=0)
    assert (normal.share, reduce.share) == (1, 0.5)
    assert str(normal) == "2 of 2 edges of normal are skips or none"
    assert str(reduce) == "1 of 2 edges of reduce are skips"
    assert str(IdleEdges("", 3, 0, 0)) == "0 of 3 edges are skips"


def test_an_edge_tells_its_cell_and_any_other_choice_none():
    assert [cell_of(each) for each in ("normal_2_0", "my_cell_10_3", "block_3", "normal_2", "a_b_c")] == [
        "normal",
        "my_cell",
        "",
        "",
        "",
    ]


def test_the_mass_is_the_mean_share_over_the_edges_of_a_cell():
    model = nasframe.supernet(SMALL_201)
    weights = {name: torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0]) for name in model.mixed_ops._modules}
    weights["cell_1_0"] = torch.tensor([0.2, 0.8, 0.0, 0.0, 0.0])
    idle = Idle.of(model)
    assert mass_of(idle.skips, model.choices, weights) == {"cell": pytest.approx((0.8 + 5 * 0.25) / 6)}
    assert mass_of(idle.zeros, model.choices, weights) == {"cell": pytest.approx(0.2 / 6)}


@pytest.mark.parametrize(
    ("key", "reaches"),
    [
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", False),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|none~2|", False),
        ("|none~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|", False),  # out hangs on nothing
        ("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", True),
        ("|avg_pool_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|", True),
    ],
)
def test_an_architecture_that_cuts_its_input_off_is_found(key, reaches):
    state = torch.get_rng_state()
    idle = Idle.in_space(SMALL_201)
    assert reaches_output(SMALL_201, SMALL_201.genotype(key), TASK, idle) is reaches
    assert torch.equal(state, torch.get_rng_state())


def test_of_tokens_it_is_not_known():
    cut = SMALL_201.genotype("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    assert reaches_output(SMALL_201, cut, Task((5,), 2, vocabulary=7), Idle.in_space(SMALL_201)) is None
