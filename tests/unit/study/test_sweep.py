"""Sweeps: which runs they make, what they tell, and how they go on."""

import io
import json
import statistics
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from nasframe.cli import main
from nasframe.errors import FormatError, RecipeError
from nasframe.study.sweep import Point, load_sweep, run_sweep

BASE = """\
name: base
device: cpu
data: {type: synthetic, num_train: 32, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1], features: 8}
search: {valid_fraction: 0.25, trainer: {epochs: 1, batch_size: 16}}
retrain: {trainer: {epochs: 1, batch_size: 16}}
trackers: [jsonl]
"""
LR = "retrain.trainer.optimizer.lr"


def swept(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(["sweep", str(folder / "base.yaml"), *arguments, "--out", str(folder / "out")])
    return caught.value.code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe, of which a sweep was made in ``out``."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "base.yaml").write_text(BASE)
    code, _, told = swept(folder, f"{LR}=0.1,1e30", "seed=0,1", "retrain.trainer.epochs=2")
    assert code == 1  # because some diverge
    assert told.startswith("4 runs, 0 of them done")
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "sweep.jsonl").read_text().splitlines()]


def loaded(folder: Path, *overrides: str) -> Any:
    return load_sweep(folder / "base.yaml", overrides, check=False)


def test_each_combination_is_a_run_of_its_own(folder: Path) -> None:
    found = {}
    for run in (folder / "out" / "runs").glob("[!.]*"):
        recipe = yaml.safe_load((run / "recipe.yaml").read_text())
        trainer = recipe["retrain"]["trainer"]
        found[run.name] = (trainer["optimizer"]["lr"], recipe["seed"], trainer["epochs"])
    assert found == {
        f"{LR}={text},seed={seed}": (float(text), seed, 2) for text in ("0.1", "1e30") for seed in (0, 1)
    }


def test_a_run_that_fails_is_told_and_the_others_go_on(folder: Path) -> None:
    assert [(row["values"], bool(row["failure"])) for row in rows(folder)[:4]] == [
        ({LR: lr, "seed": seed}, lr == "1e30") for lr in ("0.1", "1e30") for seed in ("0", "1")
    ]
    assert "NonFiniteError" in rows(folder)[2]["failure"]


def test_the_same_command_and_more_values_go_on_and_run_nothing_twice(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*/status.json")}
    done = [path for path in before if "lr=0.1," in str(path)]
    code, printed, told = swept(folder, f"{LR}=0.1,0.2", "seed=0,1,2", "retrain.trainer.epochs=2", "--json")
    assert code == 0
    assert told.startswith("6 runs, 2 of them done")
    assert all(path.stat().st_mtime_ns == before[path] for path in done)
    found = json.loads(printed)
    assert [row["values"] for row in found["runs"]] == [
        {LR: lr, "seed": seed} for lr in ("0.1", "0.2") for seed in ("0", "1", "2")
    ]
    for index, told_of in enumerate(found["over_seeds"]):
        values = [row["metrics"]["test_accuracy"] for row in found["runs"][3 * index : 3 * index + 3]]
        assert told_of["values"] == {LR: ("0.1", "0.2")[index]}
        assert (told_of["mean"], told_of["count"]) == (pytest.approx(statistics.fmean(values)), 3)


def test_the_table_has_a_line_for_each_run_and_each_mean(folder: Path) -> None:
    _, printed, _ = swept(folder, f"{LR}=0.1,1e30", "seed=0,1", "retrain.trainer.epochs=2")
    table = [line.split() for line in printed.splitlines()]
    done = [row for row in rows(folder) if row["values"] == {LR: "0.1", "seed": "1"}]
    assert ["lr", "seed", "test", "accuracy", "parameters", "search", "s", "retrain", "s"] in table
    (line,) = (line for line in table if line[:2] == ["0.1", "1"])
    assert line[2:4] == [
        f"{done[0]['metrics']['test_accuracy']:.2%}",
        f"{done[0]['metrics']['parameters']:.0f}",
    ]
    assert sum(line[2:3] == ["failed"] for line in table) == 2


def test_the_runs_of_a_sweep_that_are_done_are_compared(folder: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit):
        main(["compare", str(folder / "out"), "--out", str(tmp_path / "page.html"), "--json"])
    done = {Path(row["run"]).name for row in rows(folder) if not row["failure"]}
    assert {run["label"] for run in json.loads(out.getvalue())["runs"]} == done


def test_a_recipe_that_changed_is_refused_in_the_same_folder(folder: Path) -> None:
    with pytest.raises(FormatError, match="of what the sweep says"):
        run_sweep(loaded(folder, f"{LR}=0.1,0.2", "seed=0,1", "retrain.trainer.epochs=1"), folder / "out")


def test_what_all_runs_get_wrong_is_told_once_and_what_one_does_with_its_values(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(folder, "seed=0,-1,two", "space.chanels=2")
    assert [(problem.path, problem.given) for problem in caught.value.problems] == [
        ("seed (seed=-1)", "-1"),
        ("seed (seed=two)", "`two`"),
        ("space.chanels", ""),
    ]


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["seed=0"], "must have several values for some key"),
        (["seed=0,0"], "must have values that differ"),
        (["seed=0,1", "seed=2,3"], "must be swept once"),
    ],
)
def test_a_sweep_of_nothing_or_of_the_same_is_refused(folder: Path, overrides: list[str], rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(folder, *overrides)
    assert rule in caught.value.problems[0].rule


def test_samples_are_some_of_the_combinations_and_more_of_them_begin_with_the_same(folder: Path) -> None:
    keys = ["seed=0,1,2", "search.valid_fraction=0.2,0.3"]
    points = {
        samples: [
            point.name
            for point in load_sweep(folder / "base.yaml", keys, samples=samples, check=False).points
        ]
        for samples in (2, 4, None)
    }
    assert points[4][:2] == points[2]
    assert len(set(points[4])) == 4
    assert set(points[4]) < set(points[None])


def test_names_of_runs_are_names_of_folders_that_differ(folder: Path) -> None:
    values = ["{type: sgd, lr: 0.1}", "{type: sgd, lr: 0.2}", "../up", "x" * 300, "x" * 301, "0.1"]
    recipe = loaded(folder, "seed=0,1").points[0].recipe
    names = [Point({"a.b": value}, recipe).name for value in values]
    assert len(set(names)) == len(names)
    assert all(len(name) < 130 and "/" not in name and " " not in name for name in names)
    assert names[-1] == "a.b=0.1"


def test_a_dry_run_lists_the_runs_and_what_slurm_would_get(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    (tmp_path / "base.yaml").write_text(BASE)
    code, printed, _ = swept(tmp_path, "seed=0,1,2", "--dry-run", "--on", "{type: slurm, jobs: 2}")
    assert code == 0
    assert printed.splitlines()[2:5] == ["seed=0", "seed=1", "seed=2"]
    assert "#SBATCH --array=0-2%2" in printed
    assert not (tmp_path / "out").exists()


def test_an_executor_is_read_as_a_part_of_a_recipe_is(folder: Path) -> None:
    code, _, told = swept(folder, "seed=0,1", "--on", "slrum", "--jobs", "2")
    assert code == 2
    assert "did you mean `slurm`" in told
