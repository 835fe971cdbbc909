"""A retraining by several seeds."""

import json
import statistics
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from nasframe import load_recipe, run
from nasframe.core import derived
from nasframe.errors import RecipeError
from nasframe.recipe import resume
from nasframe.recipe.planning import _times
from nasframe.recipe.rehearsal import Phase, Rehearsal

RECIPE = """
name: seeds
seed: 7
device: cpu
threads: 1
data: {type: synthetic, num_train: 40, num_test: 22, num_classes: 3, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1]}
search: {explorer: random_search, score: parameters, evaluations: 1, health: {gap_every: null}}
retrain:
  valid_fraction: 0.25
  augment: [flip, mixup]
  seeds: 3
  trainer: {epochs: 2, batch_size: 8, optimizer: {lr: 0.1}}
trackers: [jsonl]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "seeds.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    return run(load_recipe(recipe), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def resumed(recipe, tmp_path_factory):
    """The same run, interrupted in its second training, and what was heard when it went on."""
    heard, folder = [], tmp_path_factory.mktemp("runs") / "interrupted"

    def interrupt(stage, step, *others):
        if (stage, step) == ("retrain 2/3", 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe), folder, interrupt)
    return resume(folder, lambda stage, step, *others: heard.append((stage, step))), heard


def _weights(folder):
    return load_file(folder / "model.safetensors")


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _report(done):
    return json.loads((done.folder / "report.json").read_text())


def test_the_first_training_is_that_of_one_seed_and_the_others_are_other_ones(recipe, finished, tmp_path):
    one = load_recipe(recipe, ["retrain.seeds=1"])
    alone = run(replace(one, genotype=finished.folder / "search" / "genotype.json"), tmp_path / "alone")
    trained = [_weights(finished.folder / "retrain" / f"seed_{seed}") for seed in (7, 8, 9)]
    assert _same(trained[0], _weights(alone.folder / "retrain"))
    assert not any(_same(trained[0], other) for other in trained[1:])
    assert not _same(trained[1], trained[2])
    assert "test_loss_mean" not in alone.metrics
    assert _report(alone)["seeds"] == []


def test_the_network_of_the_lowest_validation_loss_is_kept(finished):
    rows = _report(finished)["seeds"]
    best = min(rows, key=lambda row: row["valid_loss"])
    stage = finished.folder / "retrain"
    assert [row["seed"] for row in rows] == [7, 8, 9]
    assert _same(_weights(stage), _weights(stage / f"seed_{best['seed']}"))
    assert _same(finished.network().state_dict(), _weights(stage))
    assert (stage / "metrics.jsonl").read_text() == (
        stage / f"seed_{best['seed']}" / "metrics.jsonl"
    ).read_text()
    last = json.loads((stage / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["retrain/valid_loss"] == pytest.approx(best["valid_loss"])
    assert finished.metrics["test_loss"] == best["test_loss"]


def test_figures_of_the_test_come_with_mean_and_deviation_over_the_seeds(recipe, finished):
    loaded = load_recipe(recipe)
    data = loaded.data()
    batch = data.test.batch(torch.arange(22))
    right = []
    for seed in (7, 8, 9):
        model = derived(loaded.retrain.space(data.task), finished.genotype).eval()
        model.load_state_dict(_weights(finished.folder / "retrain" / f"seed_{seed}"))
        outputs = model(data.preprocess.normalize(data.preprocess.scale(batch.inputs)))
        right.append(float((outputs.argmax(1) == batch.targets).sum()) / 22)
    assert finished.metrics["test_accuracy_mean"] == pytest.approx(statistics.mean(right))
    assert finished.metrics["test_accuracy_std"] == pytest.approx(statistics.stdev(right))
    assert not any(name.startswith("valid") for name in finished.metrics)


def test_a_run_that_was_interrupted_goes_on_in_the_training_that_it_was_in(finished, resumed):
    again, heard = resumed
    # an epoch has three steps: it goes on after the first one of the second training, which it has saved
    assert heard[0] == ("retrain 2/3", 4)
    assert {stage for stage, _ in heard} == {"retrain 2/3", "retrain 3/3"}
    assert again.metrics == finished.metrics
    assert _same(_weights(again.folder / "retrain"), _weights(finished.folder / "retrain"))


@pytest.mark.parametrize("setting", ["seeds=2", "trainer.patience=3", "trainer.ends_with=best"])
def test_what_is_chosen_by_held_out_examples_needs_some(recipe, setting):
    settings = ["retrain.seeds=1", "retrain.valid_fraction=0", f"retrain.{setting}"]
    with pytest.raises(RecipeError, match=r"retrain\.valid_fraction: must be above 0"):
        load_recipe(recipe, settings)


def test_a_trainer_that_decides_by_held_out_examples_needs_some_in_the_search(recipe):
    settings = ["search={trainer: {patience: 3}, algorithm: darts_bilevel, valid_fraction: 0}"]
    settings += ["~search.explorer", "~search.score"]
    with pytest.raises(RecipeError, match=r"search\.valid_fraction: must be above 0"):
        load_recipe(recipe, settings)


def test_networks_that_are_trained_to_be_scored_have_no_held_out_examples_to_decide_by(recipe):
    with pytest.raises(RecipeError, match="must not decide by held-out examples where it trains networks"):
        load_recipe(recipe, ["search.score=retraining", "search.trainer.patience=2"])


def test_a_plan_counts_the_steps_of_all_seeds():
    phases = (Phase(0, 40, 0.5, 3), Phase(2, 60, 0.25, 3))
    one = Rehearsal(
        stage="retrain",
        device="cpu",
        batch_size=8,
        num_epochs=5,
        phases=phases,
        prepare_seconds=1.0,
        validation_seconds=2.0,
        num_validated=16,
        health_seconds=0.0,
        peak_bytes=None,
        free_bytes=None,
        checkpoint_bytes=1000,
        precision="float32",
    )
    many = _times(one, 3)
    assert many.seconds == pytest.approx(3 * (40 * 0.5 + 60 * 0.25 + 5 * 2.0))
    assert (many.num_steps, many.checkpoint_bytes, many.prepare_seconds) == (300, 3000, 1.0)
