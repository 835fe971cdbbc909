"""The recipe's `search.benchmark`: what the table knows is told, and nothing learns from it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasframe import Genotype, Task, load_recipe, run
from nasframe.core import benchmarks
from nasframe.core.packing import unpack
from nasframe.errors import DataError, FormatError, RecipeError
from nasframe.spaces.macro import Macro

RECIPE = """
name: tiny
threads: 1
data: {type: synthetic, num_train: 32, num_test: 16, num_classes: 3, height: 8, width: 8}
space: {type: macro, channels: 2, features: 4}
search:
  algorithm: {type: proxyless, update: all_paths, alpha_optimizer: {lr: 0.5}}
  mixed_op: binary_gate
  trainer: {epochs: 2, batch_size: 8}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""
TAGS = {"search/true_accuracy", "search/true_rank", "search/true_percentile"}


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def _attached(table: Path) -> str:
    return f"search.benchmark={{type: nas_bench_macro, path: {table}}}"


def _lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "search" / "metrics.jsonl").read_text().splitlines()]


def _checkpoints(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    files = sorted((folder / "search" / "checkpoints").glob("step-*.pt"))
    return {path.name: unpack(torch.load(path, weights_only=True)["state"])["model"] for path in files}


def test_a_search_with_and_without_the_table_is_the_same_to_the_last_bit(recipe_file, macro_table, tmp_path):
    without = run(load_recipe(recipe_file), tmp_path / "without")
    beside = run(load_recipe(recipe_file, [_attached(macro_table)]), tmp_path / "beside")
    assert beside.genotype == without.genotype
    states = [_checkpoints(done.folder) for done in (without, beside)]
    assert states[0].keys() == states[1].keys()
    assert len(states[0]) == 2
    for name, state in states[0].items():
        assert any("alpha" in key for key in state)
        assert state.keys() == states[1][name].keys()
        assert all(torch.equal(value, states[1][name][key]) for key, value in state.items())
    weights = [load_file(done.folder / "retrain" / "model.safetensors") for done in (without, beside)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_each_epoch_and_the_report_tell_where_the_preferred_architecture_stands(
    recipe_file, macro_table, tmp_path
):
    done = run(load_recipe(recipe_file, [_attached(macro_table)]), tmp_path / "run")
    table, space = json.loads(macro_table.read_text()), Macro(Task())
    lines = _lines(done.folder)
    for line in lines:
        blocks = ("identity", "mb_k3_e3", "mb_k5_e6")
        preferred = "".join(
            str(max(range(3), key=lambda k, at=f"alphas/layer_{layer}", line=line: line[f"{at}/{blocks[k]}"]))
            for layer in range(8)
        )
        percent = table[preferred]["mean_acc"]
        better = sum(entry["mean_acc"] > percent for entry in table.values())
        assert line["search/true_accuracy"] == pytest.approx(percent / 100, abs=1e-12)
        assert line["search/true_rank"] == better + 1
        assert line["search/true_percentile"] == pytest.approx(100 * (6561 - better) / 6561, rel=1e-12)
    assert space.key(done.genotype) == preferred
    events = EventAccumulator(str(done.folder / "search" / "tensorboard"))
    events.Reload()
    for tag in TAGS:
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([line[tag] for line in lines])
    for tag in TAGS:
        assert done.metrics[tag.removeprefix("search/")] == lines[-1][tag]
    entry = json.loads((done.folder / "report.json").read_text())["benchmark"]
    assert (entry["name"], entry["rank"], entry["count"]) == ("nas_bench_macro", better + 1, 6561)
    page = " ".join(done.report.read_text().split())
    assert f"nas_bench_macro, this architecture reaches {percent:.2f}%: rank {better + 1:,} of 6,561" in page


def test_without_a_table_nothing_is_told(recipe_file, tmp_path):
    done = run(load_recipe(recipe_file, ["search.trainer.max_steps=1"]), tmp_path / "run")
    assert not TAGS & _lines(done.folder)[0].keys()
    assert "true_rank" not in done.metrics
    assert "In the table of" not in done.report.read_text()


def test_a_known_architecture_is_looked_up_too(recipe_file, macro_table, tmp_path):
    known = tmp_path / "genotype.json"
    Macro(Task()).genotype("22212220").save(known)
    done = run(load_recipe(recipe_file, [_attached(macro_table), f"genotype={known}"]), tmp_path / "run")
    standing = benchmarks["nas_bench_macro"](path=macro_table).standing(Genotype.load(known))
    assert done.metrics["true_rank"] == standing.rank


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_table_that_cannot_be_used_is_refused_before_the_search(recipe_file, tmp_path, content):
    table = tmp_path / "table.json"
    if content is not None:
        table.write_text(content)
    with pytest.raises(DataError if content is None else FormatError, match=r"table\.json: must be"):
        run(load_recipe(recipe_file, [_attached(table)], check=False), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["steps"] == {}
    with pytest.raises(RecipeError, match=r"search\.benchmark.*table\.json"):
        load_recipe(recipe_file, [_attached(table)])


@pytest.mark.parametrize(
    ("space", "given"),
    [
        ("space={type: darts}", "the space `darts`"),
        ("space.stages=[2,3,2]", "the space `macro` with stages [2, 3, 2]"),
    ],
)
def test_another_space_than_the_tables_is_refused(recipe_file, macro_table, space, given):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [_attached(macro_table), space])
    (problem,) = caught.value.problems
    assert (problem.where, problem.path, problem.given) == ("command line", "search.benchmark", given)
    assert problem.rule == (
        "`nas_bench_macro` knows the architectures of the space `macro` with stages [2, 3, 3] alone"
    )


def test_a_narrower_supernet_goes_with_the_table(recipe_file, macro_table):
    recipe = load_recipe(recipe_file, [_attached(macro_table), "space.channels=8"])
    assert recipe.search.benchmark.settings == {"path": macro_table}


def test_the_path_of_the_table_must_be_given(recipe_file):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, ["search.benchmark=nas_bench_macro"])
    assert [(problem.path, problem.rule) for problem in caught.value.problems] == [
        ("search.benchmark.path", "must be given")
    ]
