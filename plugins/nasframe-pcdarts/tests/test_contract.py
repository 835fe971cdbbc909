"""What nasframe asks of every component, and a whole run from the recipe."""

import json
from functools import partial
from pathlib import Path

import pytest

import nasframe
from nasframe import testing
from nasframe.core import spaces
from nasframe_pcdarts.edge_normalization import EdgeNormalized
from nasframe_pcdarts.edge_rule import EdgeRule
from nasframe_pcdarts.partial_channels import PartialChannels

RECIPE = Path(__file__).parents[1] / "recipes" / "digits_pcdarts.yaml"
OPERATIONS = ("none", "skip_connect", "max_pool_3x3")
DARTS = spaces.component("darts", channels=4, cells=3, nodes=2, stem_multiplier=1, operations=OPERATIONS)
TINY = {
    "data.test_fraction": 0.05, "trackers": "[jsonl]", "space.of.nodes": 2, "space.of.stem_multiplier": 1,
    "search.valid_fraction": 0.05, "search.trainer.max_steps": 2, "search.trainer.batch_size": 8,
    "search.algorithm.warmup_epochs": 0, "retrain.trainer.max_steps": 1, "retrain.trainer.batch_size": 8,
}  # fmt: skip


def test_the_recipe_of_drnas_is_valid():
    stages = nasframe.load_recipe(RECIPE.with_name("digits_drnas_progressive.yaml")).search.stages
    assert [stage.space.settings["divisor"] for stage in stages] == [4, 2]


@pytest.mark.parametrize("registry", ["spaces", "mixed_ops", "derivers"])
def test_the_components_are_described_and_typed(registry):
    testing.check_component(registry, "pcdarts")


@pytest.mark.parametrize("inside", [DARTS, spaces.component("nas_bench_201", channels=4, cells=1)])
def test_the_space_fulfils_its_contract(inside):
    testing.check_space(partial(PartialChannels, of=inside), nasframe.Task((1, 8, 8), 3))


@pytest.mark.parametrize("num_candidates", [2, 5])
def test_the_mixed_op_fulfils_its_contract(num_candidates):
    testing.check_mixed_op(EdgeNormalized, num_candidates=num_candidates)


def test_the_rule_fulfils_its_contract():
    testing.check_deriver(EdgeRule, mixed_op=EdgeNormalized)


def test_searches_with_it_move_what_they_should_and_resume_exactly():
    testing.check_algorithm(nasframe.registries["algorithms"]["darts_bilevel"], mixed_op=EdgeNormalized)


def test_the_recipe_runs_from_end_to_end_and_moves_betas(tmp_path):
    recipe = nasframe.load_recipe(RECIPE, [f"{key}={value}" for key, value in TINY.items()])
    done = nasframe.run(recipe, tmp_path / "run")
    assert json.loads((done.folder / "status.json").read_text())["ended"] == "done"
    assert done.network().kinds() == ("weight",)
    (line,) = (done.folder / "search" / "metrics.jsonl").read_text().splitlines()
    weights = [value for tag, value in json.loads(line).items() if tag.startswith("alphas/normal_3/")]
    assert len(weights) == 3
    assert sum(weights) == pytest.approx(1, rel=1e-5)


def test_the_recipe_of_nas_bench_201_weighs_what_nodes_add_up_and_runs(tmp_path):
    path = RECIPE.with_name("nas_bench_201_pcdarts.yaml")
    small = {
        "data": "{type: synthetic, num_train: 40, num_test: 8, num_classes: 3, height: 8, width: 8}",
        "space.of.channels": 4, "space.of.cells": 1, "search.augment": "[]", "retrain.augment": "[]",
        "search.algorithm.warmup_epochs": 0, "search.trainer.epochs": 1, "search.trainer.batch_size": 8,
        "retrain.trainer.max_steps": 1, "retrain.trainer.batch_size": 8, "trackers": "[jsonl]",
    }  # fmt: skip
    recipe = nasframe.load_recipe(path, [f"{key}={value}" for key, value in small.items()], check=False)
    done = nasframe.run(recipe, tmp_path / "run")
    assert done.architecture.count("~") == len(done.genotype.choices) == 6
    (line,) = (done.folder / "search" / "metrics.jsonl").read_text().splitlines()
    figures = json.loads(line)
    assert sum(figures[f"alphas/cell_3/{state}"] for state in range(3)) == pytest.approx(1, rel=1e-5)
    assert figures["health/gap"] == figures["health/supernet_accuracy"] - figures["health/path_accuracy"]
