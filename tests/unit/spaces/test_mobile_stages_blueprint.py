"""The blueprint of the space mobile_stages, and whole searches in it."""

import json

import pytest
import torch
from torch import nn

from nasframe import load_recipe, run
from nasframe.core import (
    Genotype,
    Task,
    choices_of,
    costs,
    derived,
    generator_for,
    price,
    sample,
    supernet,
)
from nasframe.errors import FormatError, UnsupportedError
from nasframe.spaces.mobile import Mobile
from nasframe.spaces.mobile_stages import MobileStages

TASK = Task((3, 16, 16), 5)
SMALL = {
    "operations": ("fused_k3_e1", "fused_k3_e2", "mb_k5_e3", "mb_k3_e6"),
    "widths": ((4, 6), (8,)),
    "depths": ((1, 3), (2,)),
    "strides": (2, 1),
    "stem": "cifar",
    "stem_channels": 4,
    "first_channels": 3,
    "features": 8,
}
FIXED = {name: SMALL[name] for name in ("strides", "stem", "stem_channels", "first_channels", "features")}


def _tiny(**settings):
    return MobileStages(TASK, **{**SMALL, **settings})


def _genotype(**kept):
    return Genotype({name: (value,) for name, value in kept.items()})


def test_each_stage_chooses_a_block_and_where_there_are_several_a_width_and_a_depth():
    choices = choices_of(_tiny())
    assert {name: choice.candidates for name, choice in choices.items()} == {
        "block_0": SMALL["operations"],
        "block_1": SMALL["operations"],
        "width_0": ("4", "6"),
        "depth_0": ("1", "3"),
    }


@pytest.mark.parametrize("blocks", [("mb_k5_e3", "mb_k3_e6"), ("fused_k3_e2", "fused_k3_e1")])
@pytest.mark.parametrize(("width", "depth"), [("4", "1"), ("6", "3")])
def test_all_blocks_of_a_stage_are_what_was_chosen_as_in_the_space_mobile(blocks, width, depth):
    ours = derived(_tiny(), _genotype(block_0=blocks[0], block_1=blocks[1], width_0=width, depth_0=depth))
    operations = tuple(dict.fromkeys(blocks))
    fixed = Mobile(TASK, operations=operations, widths=(int(width), 8), depths=(int(depth), 2), **FIXED)
    names = [blocks[0]] * int(depth) + [blocks[1]] * 2
    theirs = derived(fixed, _genotype(**{f"layer_{index}": name for index, name in enumerate(names)}))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=0)


def test_values_and_blocks_share_the_weights_of_the_widest_and_deepest():
    """Each kind of block of the largest network once."""
    space = _tiny()
    largest = [
        derived(space, _genotype(block_0=name, block_1=name, width_0="6", depth_0="3"))
        for name in SMALL["operations"]
    ]
    around = sum(
        weight.numel()
        for part in (largest[0].network.stem, largest[0].network.first, largest[0].network.head)
        for weight in part.parameters()
    )
    stages = sum(weight.numel() for each in largest for weight in each.network.stages.parameters())
    found = sum(weight.numel() for weight in supernet(space).parameters_of("weight"))
    assert found == around + stages


@pytest.mark.parametrize("cost_name", ["parameters", "flops"])
def test_architectures_are_priced_as_they_cost(cost_name):
    space, cost = _tiny(widths=((4, 6), (8, 4))), costs[cost_name]()
    prices = price(space, TASK, cost)
    for seed in range(4):
        genotype = sample(space, generator_for(seed))
        with torch.device("meta"):
            assert prices.of(genotype) == cost.of(derived(space, genotype), TASK)


def test_the_plain_family_goes_through_widths_together_and_depths_that_do_not_fall():
    space = _tiny(widths=((4, 6), (8,)), depths=((2, 1, 3), (2, 1)))
    found = set()
    for genotype in space.baselines()["mobilenet_v2"]:
        with torch.device("meta"):
            derived(space, genotype)
        assert genotype["block_0"] == genotype["block_1"] == ("mb_k3_e6",)
        found.add(tuple(int(genotype[name][0]) for name in ("width_0", "depth_0", "depth_1")))
    assert found == {
        (width, *depths) for width in (4, 6) for depths in [(1, 1), (1, 2), (2, 2), (3, 2)]
    }  # fmt: skip
    assert [
        dict(each.choices)
        for each in _tiny(widths=((4,), (8,)), depths=((1,), (2,))).baselines()["mobilenet_v2"]
    ] == [{"block_0": ("mb_k3_e6",), "block_1": ("mb_k3_e6",)}]
    assert not _tiny(operations=("fused_k3_e1",)).baselines()


def test_there_is_a_picture_of_each_stage():
    kept = {"block_0": "fused_k3_e2", "block_1": "mb_k5_e3", "width_0": "6", "depth_0": "3"}
    graphs = _tiny().graphs(_genotype(**kept))
    assert [graph.title for graph in graphs.values()] == ["stage 0, 6 channels", "stage 1, 8 channels"]
    assert graphs["stage_0"].edges == tuple((str(i), str(i + 1), "fused_k3_e2") for i in range(3))
    assert graphs["stage_1"].edges == tuple((str(i), str(i + 1), "mb_k5_e3") for i in range(2))
    with pytest.raises(FormatError, match="choice `width_0`"):
        _tiny().graphs(Genotype({}))


def test_batch_norms_have_the_epsilon_of_the_mobile_spaces():
    network = derived(_tiny(), sample(_tiny(), generator_for(0)))
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ((4,),)}, "one item a stage, got 1, 2 and 2"),
        ({"widths": ((4,), ())}, r"widths must have distinct values to choose from, got \[\]"),
        ({"depths": ((2, 2), (1,))}, r"depths must have distinct values to choose from, got \[2, 2\]"),
        ({"operations": ()}, r"operations must be distinct .* got \[\]"),
        ({"operations": ("mb_k3_e3", "mb_k3_e3")}, "operations must be distinct"),
        ({"operations": ("mb_k3_e3", "skip_connect")}, "`skip_connect` does not"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(UnsupportedError, match=message):
        _tiny(**settings)


def test_tasks_without_images_are_refused():
    with pytest.raises(UnsupportedError, match="space mobile_stages: inputs must be images"):
        MobileStages(Task((4,), 3))


RECIPE = """
name: stages
data: {type: synthetic, num_train: 32, num_test: 16}
space:
  type: mobile_stages
  operations: [fused_k3_e1, mb_k3_e6]
  widths: [[4, 6], [8]]
  depths: [[1, 2], [1, 2]]
  strides: [2, 1]
  stem: cifar
  stem_channels: 4
  first_channels: 3
  features: 8
search: %s
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""
BY_GRADIENT = {
    "algorithm": "proxyless",
    "mixed_op": "binary_gate",
    "cost": "flops",
    "penalty": {"type": "linear", "weight": 0.1},
    "trainer": {"epochs": 2, "batch_size": 8},
}
BY_EXPLORER = {
    "explorer": "random_search",
    "score": "parameters",
    "evaluations": 4,
}


@pytest.mark.parametrize("search", [BY_GRADIENT, BY_EXPLORER], ids=["gradient", "explorer"])
def test_a_search_finds_a_network_of_the_space(tmp_path, search):
    path = tmp_path / "stages.yaml"
    path.write_text(RECIPE % json.dumps(search))
    recipe = load_recipe(path)
    done = run(recipe, tmp_path / "run")
    task = recipe.data().task
    assert set(done.genotype.choices) == {"block_0", "block_1", "width_0", "depth_0", "depth_1"}
    network = derived(recipe.space(task), done.genotype)
    assert done.metrics["parameters"] == costs["parameters"]().of(network, task)
