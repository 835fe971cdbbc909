"""The blueprint of the space mobile_elastic, and a whole search in it."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

from nasframe import load_recipe, registries, run
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
from nasframe.spaces.mobile_elastic import MobileElastic

TASK = Task((3, 16, 16), 5)
IMAGENET = Task((3, 224, 224), 1000)
COUNTED = ("parameters", "flops")
SMALL = {
    "kernel_sizes": (3, 5),
    "expansions": (2, 3),
    "widths": ((4, 6), (8,)),
    "depths": ((1, 2), (2,)),
    "strides": (2, 1),
    "stem": "cifar",
    "stem_channels": 4,
    "first_channels": 3,
    "features": 8,
}


def _tiny(**settings):
    return MobileElastic(TASK, **{**SMALL, **settings})


def _extreme(space, pick):
    """The architecture whose choices all keep their smallest, or largest, value."""
    model = supernet_of(space)
    return model.genotype({choice.id: (str(pick(choice.values)),) for choice in model.choices.values()})


def supernet_of(space):
    with torch.device("meta"):
        return supernet(space)


@pytest.mark.parametrize(("pick", "depth", "op"), [(max, 4, "mb_k7_e6"), (min, 2, "mb_k3_e3")])
def test_largest_and_smallest_network_have_the_counts_of_the_fixed_mobile_networks(pick, depth, op):
    space = MobileElastic(IMAGENET)
    fixed = Mobile(IMAGENET, depths=(depth,) * 5 + (1,))
    with torch.device("meta"):
        ours = derived(space, _extreme(space, pick))
        theirs = derived(fixed, Genotype(dict.fromkeys(choices_of(fixed), (op,))))
    for name in COUNTED:
        assert costs[name]().of(ours, IMAGENET) == costs[name]().of(theirs, IMAGENET)
    shapes = [[tuple(weight.shape) for weight in network.parameters()] for network in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("pick", [max, min])
def test_so_have_those_of_a_space_with_widths(pick):
    space = _tiny(expansions=(3, 6), widths=((4, 6), (8, 10)), depths=((1, 3), (2,)))
    shared = {
        name: SMALL[name] for name in ("strides", "stem", "stem_channels", "first_channels", "features")
    }
    fixed = Mobile(TASK, widths=(pick(4, 6), pick(8, 10)), depths=(pick(1, 3), 2), **shared)
    op = f"mb_k{pick(3, 5)}_e{pick(3, 6)}"
    ours = derived(space, _extreme(space, pick))
    theirs = derived(fixed, Genotype(dict.fromkeys(choices_of(fixed), (op,))))
    for name in COUNTED:
        assert costs[name]().of(ours, TASK) == costs[name]().of(theirs, TASK)


def test_the_choices_are_kernels_expansions_depths_and_widths():
    choices = choices_of(_tiny())
    blocks = ("0_0", "0_1", "1_0", "1_1")
    assert set(choices) == {
        "depth_0", "width_0", *(f"{kind}_{block}" for kind in ("kernel", "expansion") for block in blocks)
    }  # fmt: skip
    assert choices["width_0"].values == (4, 6)
    assert choices["depth_0"].values == (1, 2)
    assert {choices[f"kernel_{block}"].values for block in blocks} == {(3, 5)}


def test_by_default_kernel_expansion_and_depth_are_searched():
    choices = choices_of(MobileElastic(IMAGENET))
    kinds = [name.split("_")[0] for name in choices]
    assert {kind: kinds.count(kind) for kind in kinds} == {"kernel": 21, "expansion": 21, "depth": 5}


def test_all_values_share_the_weights_of_the_largest_network():
    model = supernet(_tiny())
    largest = derived(_tiny(), _extreme(_tiny(), max))
    assert sum(weight.numel() for weight in model.parameters_of("weight")) == sum(
        weight.numel() for weight in largest.parameters()
    )


@pytest.mark.parametrize("cost_name", COUNTED)
def test_architectures_are_priced_as_they_cost(cost_name):
    space, cost = _tiny(widths=((4, 6), (8, 4))), costs[cost_name]()
    prices = price(space, TASK, cost)
    for seed in range(2):
        genotype = sample(space, generator_for(seed))
        with torch.device("meta"):
            assert prices.of(genotype) == cost.of(derived(space, genotype), TASK)


def test_a_derived_network_has_no_trace_of_the_search():
    network = derived(_tiny(), sample(_tiny(), generator_for(0)))
    assert network.kinds() == ("weight",)
    names = {type(module).__name__ for module in network.modules()}
    assert names <= {
        "Model", "_MixedOps", "Sequential", "Conv2d", "DepthwiseConv", "BatchNorm2d", "ReLU6",
        "InvertedResidual", "ConvClassifier", "Linear",
    }  # fmt: skip


def test_batch_norms_have_parameters_and_the_authors_epsilon():
    network = derived(_tiny(), sample(_tiny(), generator_for(0)))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.affine, norm.eps) for norm in norms} == {(True, 1e-3)}
    norms = [module for module in supernet(_tiny()).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}


def test_there_is_a_picture_of_each_stage():
    kept = {"width_0": "6", "depth_0": "2", "kernel_0_0": "3", "expansion_0_0": "2", "kernel_0_1": "5"}
    kept |= {
        "expansion_0_1": "3",
        "kernel_1_0": "3",
        "expansion_1_0": "3",
        "kernel_1_1": "5",
        "expansion_1_1": "2",
    }
    graphs = _tiny().graphs(Genotype({name: (value,) for name, value in kept.items()}))
    assert list(graphs) == ["stage_0", "stage_1"]
    assert graphs["stage_0"].title == "stage 0, 6 channels"
    assert graphs["stage_0"].edges == (("0", "1", "mb_k3_e2"), ("1", "2", "mb_k5_e3"))
    assert graphs["stage_1"].title == "stage 1, 8 channels"
    assert graphs["stage_1"].edges == (("0", "1", "mb_k3_e3"), ("1", "2", "mb_k5_e2"))
    with pytest.raises(FormatError, match="choice `width_0`"):
        _tiny().graphs(Genotype({}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ((4,),)}, "one item a stage, got 1, 2 and 2"),
        ({"widths": ((4,), ())}, r"widths must have distinct values to choose from, got \[\]"),
        ({"depths": ((2, 2), (1,))}, r"depths must have distinct values to choose from, got \[2, 2\]"),
        ({"kernel_sizes": (3, 4)}, r"kernel_sizes must be odd, got \[3, 4\]"),
        ({"expansions": (1, 3)}, r"an expansion of 1 must stand alone, got \[1, 3\]"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(UnsupportedError, match=message):
        _tiny(**settings)


def test_tasks_without_images_are_refused():
    with pytest.raises(UnsupportedError, match="space mobile_elastic: inputs must be images"):
        MobileElastic(Task((4,), 3))


RECIPE = """
name: elastic
data: {type: synthetic, num_train: 32, num_test: 16}
space:
  type: mobile_elastic
  kernel_sizes: [3, 5]
  expansions: [2, 3]
  widths: [[4, 6], [8]]
  depths: [[1, 2], [1, 2]]
  strides: [2, 1]
  stem: cifar
  stem_channels: 4
  first_channels: 3
  features: 8
search:
  algorithm: proxyless
  mixed_op: binary_gate
  cost: flops
  penalty: {type: linear, weight: 0.1}
  trainer: {epochs: 2, batch_size: 8}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""


def test_a_mobile_block_is_searched_whole_from_a_recipe(tmp_path):
    path = tmp_path / "elastic.yaml"
    path.write_text(RECIPE)
    recipe = load_recipe(path)
    done = run(recipe, tmp_path / "run")
    space = recipe.space(recipe.data().task)
    assert set(done.genotype.choices) <= set(choices_of(space))
    assert done.metrics["parameters"] == costs["parameters"]().of(derived(space, done.genotype), TASK)
    lines = (done.folder / "search" / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    for kind in ("kernel_0_0/5", "expansion_0_0/3", "depth_1/2", "width_0/6"):
        assert first[f"alphas/{kind}"] != last[f"alphas/{kind}"]
    assert last["search/derived_cost"] == costs["flops"]().of(
        derived(space, done.genotype), recipe.data().task
    )


@pytest.fixture(scope="module")
def prices():
    return price(_tiny(), TASK, costs["flops"]())


@pytest.mark.parametrize("seed", range(3))
def test_under_a_budget_the_most_likely_of_all_architectures_is_derived(prices, seed):
    space = _tiny()
    generator = torch.Generator().manual_seed(seed)
    model = supernet(space)
    for alpha in model.parameters_of("alpha"):
        alpha.data = torch.randn(alpha.shape, generator=generator)
    weights = {name: dict(zip(model.choices[name].candidates, p.tolist(), strict=True))
               for name, p in model.choice_weights().items()}  # fmt: skip
    outcomes = []
    for kept in itertools.product(*(choice.candidates for choice in model.choices.values())):
        decided = dict(zip(model.choices, kept, strict=True))
        genotype = model.genotype({name: (value,) for name, value in decided.items()})
        score = math.fsum(math.log(weights[name][value]) for name, value in decided.items())
        outcomes.append((score, prices.of(genotype), genotype))
    preferred = max(outcomes, key=lambda outcome: outcome[0])[1]
    budget = (min(cost for _, cost, _ in outcomes) + preferred) / 2  # so that it binds
    best = max(outcomes, key=lambda outcome: (outcome[1] <= budget, outcome[0]))
    found = registries["derivers"]["darts"]().derive_within(model, prices, budget)
    assert prices.of(found) <= budget < preferred
    assert found == best[2]
    assert costs["flops"]().of(derived(space, found), TASK) == prices.of(found)
