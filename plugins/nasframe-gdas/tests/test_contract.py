"""What nasframe asks of every mixed op, and a whole run from the recipe."""

import json
from functools import partial
from pathlib import Path

import pytest

import nasframe
from nasframe import testing
from nasframe_gdas.gdas import Gdas

RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE = RECIPES / "digits_gdas.yaml"
TINY = {
    "data.test_fraction": 0.05, "trackers": "[jsonl]", "space.channels": 4, "space.nodes": 2,
    "search.valid_fraction": 0.05, "search.trainer.max_steps": 2, "search.trainer.batch_size": 8,
    "retrain.space.channels": 4, "retrain.trainer.max_steps": 1, "retrain.trainer.batch_size": 8,
}  # fmt: skip


def test_the_component_is_described_and_typed():
    testing.check_component("mixed_ops", "gdas")


@pytest.mark.parametrize("num_candidates", [2, 5])
def test_the_mixed_op_fulfils_its_contract(num_candidates):
    testing.check_mixed_op(Gdas, num_candidates=num_candidates)


def test_searches_with_it_move_what_they_should_and_resume_exactly():
    darts_bilevel = nasframe.registries["algorithms"]["darts_bilevel"]
    testing.check_algorithm(partial(darts_bilevel, order=1), mixed_op=Gdas)


def test_the_rule_of_darts_reads_an_architecture_off_it():
    testing.check_deriver(nasframe.registries["derivers"]["darts"], mixed_op=Gdas)


def test_the_recipe_runs_from_end_to_end(tmp_path):
    done = nasframe.run(
        nasframe.load_recipe(RECIPE, [f"{key}={value}" for key, value in TINY.items()]), tmp_path / "run"
    )
    assert json.loads((done.folder / "status.json").read_text())["ended"] == "done"
    assert 0 <= done.metrics["test_accuracy"] <= 1
    assert done.network().kinds() == ("weight",)


def test_the_recipe_of_nas_bench_201_has_the_settings_of_the_benchmark_and_runs(tmp_path):
    # those of the authors' GDAS.config and GDAS.sh, and of their training of the networks
    path = RECIPES / "nas_bench_201_gdas.yaml"
    recipe = nasframe.load_recipe(path, check=False)
    assert recipe.search.mixed_op.settings == {"init_std": 1e-3, "tau_max": 10.0, "tau_min": 0.1}
    assert recipe.search.trainer.settings["epochs"] == 240
    overrides = ["data=digits", "space.cells=1"]
    overrides += [f"{key}={value}" for key, value in TINY.items() if key != "space.nodes"]
    done = nasframe.run(nasframe.load_recipe(path, overrides), tmp_path / "run")
    assert done.architecture.count("~") == 6
