"""What is refused in the first minute of a run, and what a run leaves for later."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from nasframe import Genotype, load_recipe, run
from nasframe.core import Dataset, Subset, datasets
from nasframe.errors import DataError, TrainingError, UnsupportedError

TINY = [
    "space.channels=4", "space.nodes=2", "search.trainer.max_steps=1", "retrain.space.channels=4",
    "retrain.trainer.max_steps=1", "search.trainer.batch_size=8", "retrain.trainer.batch_size=8",
    "trackers=[jsonl]",
]  # fmt: skip


def tiny(*overrides: str):
    return load_recipe("digits_darts", [*TINY, *overrides], check=False)  # as one that was made by hand


def steps_of(folder):
    return json.loads((folder / "status.json").read_text())["steps"]


@pytest.mark.parametrize(
    "override", ["retrain.space.nodes=3", "retrain.space.operations=[none,skip_connect]"]
)
def test_a_retraining_that_cannot_build_what_is_found_is_refused_before_the_search(override, tmp_path):
    with pytest.raises(UnsupportedError, match=r"retrain\.space: must build what a search of `space` finds"):
        run(tiny(override), tmp_path / "run")
    assert steps_of(tmp_path / "run") == {}


@pytest.mark.parametrize("late", ["search.algorithm.second_order_from=5", "search.algorithm.warmup_epochs=5"])
def test_an_optimizer_that_second_order_cannot_model_is_refused_at_the_first_step(late, tmp_path):
    recipe = tiny("search.algorithm.order=2", "search.trainer.optimizer.type=adam", late)
    with pytest.raises(UnsupportedError, match="the optimizer must be sgd"):
        run(recipe, tmp_path / "run")


@pytest.mark.parametrize("wrong", ["momentum=0", "dampening=0.5"])
def test_nesterov_that_torch_would_refuse_is_refused_with_the_remedy(wrong, tmp_path):
    optimizer = ["search.trainer.optimizer.nesterov=true", f"search.trainer.optimizer.{wrong}"]
    with pytest.raises(UnsupportedError, match="nesterov must have momentum and no dampening"):
        run(tiny(*optimizer), tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="device: must be one that this machine has, got cuda"):
        run(tiny("device=cuda"), tmp_path / "run")


def test_a_training_that_diverges_stops_and_names_what_is_not_finite(tmp_path):
    diverging = [
        "search.trainer.optimizer.lr=1e30",
        "search.trainer.max_steps=3",
        "search.trainer.max_grad_norm=null",
    ]
    with pytest.raises(TrainingError, match="search: step 2: loss, gradients and alphas must be finite"):
        run(tiny(*diverging), tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["ended"] == "failed"
    assert not (tmp_path / "run" / "search" / "genotype.json").exists()


def _nothing_to_test_on() -> Dataset:
    """Digits without test examples."""
    digits = datasets["digits"]()
    return replace(digits, test=Subset(digits.test, torch.arange(0)))


def test_data_without_examples_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(datasets._registered, "nothing_to_test_on", _nothing_to_test_on)
    with pytest.raises(DataError, match="data: there must be test examples"):
        run(tiny("data.type=nothing_to_test_on"), tmp_path / "run")


def test_a_finished_network_is_had_without_its_data_and_the_report_by_its_name(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    done = run(tiny(), tmp_path / "run")
    recipe = (done.folder / "recipe.yaml").read_text().replace("type: digits", "type: cifar10")
    recipe = recipe.replace("test_fraction: 0.2", f"path: {folder}")
    (done.folder / "recipe.yaml").write_text(recipe)
    shutil.rmtree(folder)
    assert done.network()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert done.report == done.folder / "report.html"


def test_curves_that_begin_late_keep_their_epochs(tmp_path):
    warm = ["search.algorithm.warmup_epochs=1", "search.trainer.epochs=2", "search.trainer.batch_size=512"]
    done = run(tiny(*warm, "search.trainer.max_steps=null"), tmp_path / "run")
    curves = json.loads((done.folder / "report.json").read_text())["curves"]
    first, second = curves["search/alpha_loss"]
    assert first is None
    assert second > 0
    assert len(curves["search/train_loss"]) == 2
    assert isinstance(done.genotype, Genotype)
