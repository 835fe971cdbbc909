"""Runs side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from nasframe import load_recipe
from nasframe.cli import main
from nasframe.errors import FormatError
from nasframe.recipe import dump_recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.study.comparison import compare, figure_rows, recipe_rows, write_comparison
from nasframe.study.sweep import runs_in

HOSTILE = '<script>alert("1")</script>'


def _folder(folder: Path, overrides: list[str], **changes: Any) -> Path:
    """What a finished run leaves, as far as it is compared."""
    folder.mkdir()
    (folder.parent / "tiny.yaml").write_text("{name: tiny, data: digits, space: {type: darts, nodes: 2}}")
    recipe = load_recipe(folder.parent / "tiny.yaml", overrides, check=False)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    graph = {"title": "normal cell", "nodes": ["a", "b"], "edges": [["a", "b", "skip"]]}
    report = {
        "name": "tiny",
        "metrics": {"test_accuracy": 0.75, "parameters": 2000},
        "genotype": {"choices": {"one": ["x"], "two": ["y"], "three": ["z"]}},
        "graphs": {"normal": graph},
        "seconds": {"search": 65.0},
        "curves": {"search/lr": [0.1, 0.2], "search/valid_accuracy": [0.5, 0.7]},
    }
    (folder / "report.json").write_text(json.dumps({**report, **changes}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    second = {
        "metrics": {"test_accuracy": 0.8, "parameters": 3000, "max_cost": 5.0},
        "genotype": {"choices": {"one": ["x"], "two": ["w", "y"]}},
        "curves": {"search/lr": [0.1, 0.2], "search/valid_accuracy": [0.5, 0.8]},
        "seconds": {"search": 7.0, "retrain": 2.0},
        "peak_bytes": 2**30,
    }
    overrides = [
        "seed=1",
        "search.deriver={type: limited, limits: {skip_connect: 1}}",
        "search.augment=[flip]",
    ]
    return [_folder(tmp_path / "a", []), _folder(tmp_path / "b", overrides, **second)]


def test_only_what_differs_between_the_recipes_is_told_and_no_default_that_follows_from_it(runs):
    found = {each["path"]: each["values"] for each in compare(runs)["recipe"]}
    assert found == {
        "seed": [{"value": 0}, {"value": 1}],
        "search.deriver.type": [{"value": "darts"}, {"value": "limited"}],
        "search.deriver.limits": [None, {"value": {"skip_connect": 1}}],
        "search.augment.0.type": [None, {"value": "flip"}],
    }


def test_a_default_that_changed_between_versions_is_told_as_a_default_and_not_as_what_was_written(tmp_path):
    """The older run is of other defaults: of the stem, and of the limits of a deriver that only it has."""
    origins = [
        {"path": "space.stem", "value": "imagenet", "origin": "default"},
        {"path": "space.nodes", "value": 3, "origin": "tiny.yaml:1"},
        {"path": "search.deriver.limits", "value": {"skip_connect": 1}, "origin": "default"},
    ]
    limited = "search.deriver={type: limited, limits: {skip_connect: 1}}"
    older = _folder(tmp_path / "older", ["space.stem=imagenet", "space.nodes=3", limited], provenance=origins)
    newer = _folder(tmp_path / "newer", [], provenance=[{**origins[0], "value": "cifar"}])
    found = compare([older, newer])
    assert {each["path"]: each["values"] for each in found["recipe"]} == {
        "space.stem": [
            {"value": "imagenet", "origin": "default"},
            {"value": "cifar", "origin": "default"},
        ],
        "space.nodes": [{"value": 3, "origin": "tiny.yaml:1"}, {"value": 2}],
        "search.deriver.type": [{"value": "limited"}, {"value": "darts"}],
    }
    assert dict(recipe_rows(found))["space.stem"] == ["imagenet (default)", "cifar (default)"]
    assert dict(recipe_rows(found))["space.nodes"] == ["3", "2"]


def test_the_same_run_in_two_folders_differs_in_nothing(tmp_path):
    found = compare([_folder(tmp_path / "a", []), _folder(tmp_path / "b", [])])
    assert found["recipe"] == []
    assert found["choices"] == {"count": 3, "alike": 3, "differing": {}}


def test_figures_and_choices_of_each_run_stand_side_by_side(runs):
    found = compare(runs)
    assert [run["label"] for run in found["runs"]] == ["a", "b"]  # both are named tiny
    assert found["metrics"] == {
        "test_accuracy": [0.75, 0.8],
        "parameters": [2000, 3000],
        "max_cost": [None, 5.0],
    }
    assert found["choices"] == {
        "count": 3,
        "alike": 1,
        "differing": {"two": [["y"], ["w", "y"]], "three": [["z"], None]},
    }
    rows = dict(figure_rows(found))
    assert rows["test accuracy"] == ["75.00%", "80.00%"]
    assert rows["search time"] == ["1 min 5 s", "7 s"]
    assert rows["retrain time"] == ["", "2 s"]
    assert rows["peak memory"] == ["", "1.0 GiB"]


def test_the_page_lays_curves_over_each_other_and_leaves_out_those_that_are_the_same(runs, tmp_path):
    write_comparison(tmp_path / "page.html", compare(runs))
    page = (tmp_path / "page.html").read_text()
    assert "search: valid accuracy over the epochs: a from 0.5 to 0.7, b from 0.5 to 0.8" in page
    assert "search: lr over" not in page
    assert "The highest test accuracy is that of b: 80.00%, 5.00 points above the next." in page
    assert page.count('aria-label="normal cell. a to b: skip"') == 2
    assert "1 of 3 choices are decided alike" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_everything_of_a_run_is_escaped_on_the_page(tmp_path):
    hostile = {
        "name": HOSTILE,
        "verdict": HOSTILE,
        "architecture": HOSTILE,
        "metrics": {HOSTILE: HOSTILE},
        "genotype": {"choices": {HOSTILE: [HOSTILE]}},
        "curves": {HOSTILE: [1.0, 2.0]},
        "graphs": {"g": {"title": HOSTILE, "nodes": [HOSTILE], "edges": []}},
        "parts": [{"name": "x", "what": HOSTILE, "shape": [1], "parameters": 1, "is_chosen": True}],
    }
    folders = [_folder(tmp_path / "a", [], **hostile), _folder(tmp_path / "b", [])]
    write_comparison(tmp_path / "page.html", compare(folders))
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_runs_are_named_by_the_part_of_their_path_that_is_their_own(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    folders = [_folder(tmp_path / "x" / "run", []), _folder(tmp_path / "y" / "run", [])]
    assert [run["label"] for run in compare(folders)["runs"]] == ["x/run", "y/run"]


def test_a_run_given_twice_or_broken_is_refused_and_named(runs, tmp_path):
    with pytest.raises(FormatError, match="must be different runs"):
        compare([runs[0], tmp_path / "b" / ".." / "a"])
    (runs[1] / "report.json").write_text('{"name": "x", "metrics": 3}')
    with pytest.raises(FormatError, match=r"b/report\.json: each must be what a finished run leaves"):
        compare(runs)


def _stopped(folder: Path, **status: Any) -> Path:
    """What a run leaves that did not reach its report."""
    directory = RunDirectory.create(folder, "tiny", (folder.parent / "tiny.yaml").read_text(), "cpu")
    directory.update_status(**status)
    return folder


def test_a_folder_of_runs_is_compared_without_those_that_are_not_finished_which_are_named(runs, tmp_path):
    failed = _stopped(tmp_path / "c", ended="failed", stage="search", reason="DataError: no image")
    stopped = _stopped(tmp_path / "d", ended="interrupted", stage="retrain")
    folders = runs_in(tmp_path)
    assert folders == [*runs, failed, stopped]
    found = compare(folders)
    assert [run["label"] for run in found["runs"]] == ["a", "b"]
    assert found["left_out"] == {
        str(failed): "failed in the search: DataError: no image",
        str(stopped): f"stopped in the retrain; `nasframe resume {stopped}` finishes it",
    }
    write_comparison(tmp_path / "page.html", found)
    assert f"Left out: {failed}: failed in the search" in (tmp_path / "page.html").read_text()
    with pytest.raises(FormatError, match=r"none is:\n.*c: failed in the search"):
        compare([failed, stopped])


def test_costs_are_told_by_what_they_are_of_with_their_unit(tmp_path):
    def told(*of: tuple[str, str]) -> dict[str, list[str]]:
        paid = [{"cost": cost, "unit": unit} for cost, unit in of]
        folder = tmp_path / of[1][0]
        folder.mkdir()
        folders = [
            _folder(folder / str(index), [], metrics={"derived_cost": 1.25}, tradeoff=each)
            for index, each in enumerate(paid)
        ]
        return dict(figure_rows(compare(folders)))

    latency = ("latency", "ms")
    assert told(latency, latency)["latency of the architecture"] == ["1.25 ms", "1.25 ms"]
    rows = told(latency, ("energy", "mJ"))
    assert rows["latency of the architecture"] == ["1.25 ms", ""]
    assert rows["energy of the architecture"] == ["", "1.25 mJ"]


def test_the_verb_prints_a_table_or_json_and_names_the_page(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    arguments = ["compare", *map(str, runs), "--out", str(out)]
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    shown = capsys.readouterr().out
    assert "75.00%" in shown
    assert "search.deriver.type" in shown
    assert f"page: {out}" in shown
    assert out.is_file()
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["metrics"]["test_accuracy"] == [0.75, 0.8]
