"""What a run tells of itself, and the page that shows it, on one tiny run."""

import json
import shutil
import statistics
from pathlib import Path

import pytest

from nasframe import Genotype, load_recipe, run
from nasframe.cli import main
from nasframe.core import Task, costs, derived, spaces

RECIPE = """
name: tiny
threads: 1
device: cpu
data: {type: synthetic, num_train: 32, num_test: 16, num_classes: 3, height: 8, width: 8}
space: {type: macro, channels: 2, features: 4}
search:
  explorer: {type: regularized_evolution, population: 4, sample: 2}
  score: parameters
  cost: flops
  penalty: {type: budget, max: 40 k}
  evaluations: 8
retrain: {trainer: {epochs: 1, batch_size: 8}}
trackers: [jsonl]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reporting") / "tiny.yaml"
    path.write_text(RECIPE)
    recipe = load_recipe(path, ["seed=3"], check=False)
    return run(recipe, path.parent / "run").folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_each_value_of_the_recipe_is_told_with_where_it_was_written(folder, report):
    told = {each["path"]: (each["value"], each["origin"]) for each in report["provenance"]}
    assert told["seed"] == (3, "command line")
    assert told["search.evaluations"] == (8, f"{folder.parent / 'tiny.yaml'}:12")
    assert told["search.explorer.sample"] == (2, f"{folder.parent / 'tiny.yaml'}:8")
    assert told["deterministic"] == (True, "default")
    assert json.loads((folder / "provenance.json").read_text()) == report["provenance"]


def test_cost_and_score_of_each_architecture_are_told_with_the_budget(report, folder):
    task = Task((3, 8, 8), 3)
    space = spaces["macro"](task, channels=2, features=4)
    lines = [json.loads(line) for line in (folder / "search" / "scores.jsonl").read_text().splitlines()]
    expected = [
        (costs["flops"]().of(derived(space, Genotype(line["genotype"])), task), line["score"])
        for line in lines
    ]
    found = report["tradeoff"]
    assert [(each["cost"], each["value"]) for each in found["points"]] == expected
    assert (found["cost"], found["quality"], found["max_cost"]) == ("flops", "score", 40e3)


def test_the_first_generation_is_the_random_one(report, folder):
    scores = [
        json.loads(line)["score"] for line in (folder / "search" / "scores.jsonl").read_text().splitlines()
    ]
    assert report["random"]["scores"] == scores
    assert report["random"]["count"] == 4
    assert report["random"]["median"] == statistics.median(scores[:4])
    assert report["random"]["best"] == max(scores[:4])
    assert report["random"]["found"] == max(scores)


def test_memory_is_told_in_bytes_and_time_by_stage(report):
    assert 50 * 1024**2 < report["peak_bytes"] < 64 * 1024**3
    assert set(report["seconds"]) == {"search", "retrain"}


def test_the_page_has_the_figures_of_the_plain_data(folder, report):
    page = (folder / "report.html").read_text()
    assert f"{report['metrics']['parameters']:,}" in page
    assert f"{report['metrics']['test_accuracy']:.2%}" in page
    for part in report["parts"]:
        assert f"{part['parameters']:,} parameters" in page


def test_the_verb_writes_the_page_again_from_plain_data_that_an_older_version_left(
    folder, report, tmp_path, capsys
):
    copy = shutil.copytree(folder, tmp_path / "copy")
    newer = (
        "parts",
        "provenance",
        "tradeoff",
        "random",
        "peak_bytes",
        "joules",
        "steps",
        "health",
        "architecture",
        "active",
    )
    (copy / "report.json").write_text(
        json.dumps({key: value for key, value in report.items() if key not in newer})
    )
    (copy / "report.html").unlink()
    with pytest.raises(SystemExit, match="0"):
        main(["report", str(copy)])
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    assert f"{report['metrics']['parameters']:,}" in (copy / "report.html").read_text()
