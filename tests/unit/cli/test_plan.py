"""The verb `plan`: what it prints, and exit codes."""

import json
import sys
from pathlib import Path

import pytest

from nasframe.cli import main, plan
from nasframe.core import ActiveSetting
from nasframe.recipe import Plan
from nasframe.recipe.planning import StagePlan
from nasframe.recipe.rehearsal import Phase, Rehearsal

TINY = """\
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 80, num_test: 16, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 1, nodes: 2, operations: [none, skip_connect, sep_conv_3x3]}
search:
  algorithm: {type: proxyless, warmup_epochs: 1}
  mixed_op: binary_gate
  trainer: {epochs: 3, batch_size: 8, schedule: {type: unit_falling}}
retrain: {trainer: {epochs: 2, batch_size: 8}}
"""
PLUGIN = """\
from nasframe.core import Schedule, schedules


@schedules.register("unit_falling")
class Falling(Schedule):
    '''Falls by itself.'''

    def __init__(self) -> None: ...

    def __call__(self, base_lr, epoch, num_epochs):
        return base_lr / (1 + epoch)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a recipe and the plugin that it needs."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    Path("own.py").write_text(PLUGIN)
    return tmp_path


def _code(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_it_measures_both_stages_with_plugins_and_leaves_nothing_behind(folder, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = _files(folder)
    assert _code("plan", "tiny.yaml", "--plugin", "own.py", "--json") == 0
    assert _files(folder) == before
    out, err = capsys.readouterr()
    assert "measuring steps of the search, batches of 8, on cpu" in err
    told = json.loads(out)
    # two nodes: C(2, 2) · C(3, 2) inputs, with one of two operations on each of four edges; one kind of cell
    assert told["architectures"] == 1 * 3 * 2**4
    # 2 + 3 edges with three candidates
    assert told["alphas"] == 15
    assert set(told["networks"]) == {"smallest", "largest", "random"}
    smallest, largest = told["networks"]["smallest"], told["networks"]["largest"]
    assert smallest["multiply_adds"] < largest["multiply_adds"]
    kept = [name for names in largest["genotype"].values() for name in names]
    assert "skip_connect" not in kept
    # 40 images of each half in batches of 8: 5 steps an epoch; all 80 less a tenth: 9
    search, retrain = told["stages"]["search"], told["stages"]["retrain"]
    assert [(phase["first_epoch"], phase["num_steps"]) for phase in search["phases"]] == [(0, 5), (1, 10)]
    assert (retrain["num_steps"], retrain["num_epochs"]) == (18, 2)
    assert told["seconds"] == search["prepare_seconds"] + search["seconds"] + retrain["seconds"]
    assert told["disk"]["bytes"] == 4 * (search["checkpoint_bytes"] + retrain["checkpoint_bytes"])
    if (
        sys.platform == "linux"
    ):  # PyTorch alone is more than the lesser, the machine has more than the greater
        assert all(50e6 < stage["peak_bytes"] < stage["free_bytes"] for stage in (search, retrain))
    assert told["fits"] is True
    assert (search["precision"], retrain["precision"]) == ("float32", "float32")
    why = {each["name"]: each["reason"] for each in search["active"]}
    assert why["precision"] == "gradients of the upper level lose digits in bfloat16"


def test_without_measuring_it_counts(folder, capsys):
    overrides = ("search.trainer.schedule=cosine", "seed=1")
    assert _code("plan", "tiny.yaml", *overrides, "--no-measure") == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if line.startswith(("archi", "alphas"))] == [
        ["architectures", "48"],
        ["alphas", "15"],
    ]
    assert "steps" not in out


def test_a_problem_of_the_recipe_is_told_as_ever(folder, capsys):
    assert _code("plan", "tiny.yaml", "search.trainer.schedule=cosine", "data.num_train=two") == 2
    assert "data.num_train" in capsys.readouterr().err


def _rehearsal(stage: str, **changes: object) -> Rehearsal:
    known = {
        "stage": stage, "device": "cpu", "batch_size": 8, "num_epochs": 50,
        "phases": (Phase(0, 1000, 0.5, 5), Phase(10, 4000, 2.0, 5)), "prepare_seconds": 7.0,
        "validation_seconds": 1.5, "num_validated": 16, "health_seconds": 0.0,
        "peak_bytes": 3 * 2**30, "free_bytes": 2**31,
        "checkpoint_bytes": 10, "precision": "float32",
        "active": (ActiveSetting("compile", "off", "because"), ActiveSetting("precision", "x", stage)),
    }  # fmt: skip
    return Rehearsal(**{**known, **changes})  # type: ignore[arg-type]


def test_what_does_not_fit_is_told_with_what_to_do(capsys):
    short = StagePlan("search", _rehearsal("search"), "a step takes more memory than was free", ("do this",))
    failed = StagePlan("retrain", None, "a step needs more memory than there is: 1 EiB", ("do that",))
    plan._show_plan(Plan("cpu", (short, failed), Path("/runs"), None, 2**30), "largest")
    lines = capsys.readouterr().out.splitlines()
    # 1000 · 0.5 s + 4000 · 2 s + 50 · 1.5 s are 2 h 22 min 55 s
    assert lines[2].split() == [
        "search",
        "1,000",
        "500",
        "ms",
        "50",
        "×",
        "1.5",
        "s",
        "none",
        "3.0",
        "GiB",
        "2",
        "h",
        "22",
        "min",
    ]
    assert lines[3].split() == ["from", "epoch", "11", "4,000", "2", "s"]
    assert lines[4].split() == ["retrain", "too", "much"]
    assert lines[-4:] == [
        "does not fit: search: a step takes more memory than was free, where 2.0 GiB of memory were free",
        "  do this",
        "does not fit: retrain: a step needs more memory than there is: 1 EiB",
        "  do that",
    ]


def test_a_full_disk_is_told(capsys):
    stage = StagePlan("search", _rehearsal("search", free_bytes=2**40))
    plan._show_plan(Plan("cpu", (stage,), Path("/runs"), 2**31, 2**30), "largest")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "does not fit: checkpoints take more than is free in /runs",
        "  free some of it, or run it elsewhere by --out",
        "checkpoints take up to 2.0 GiB, 1.0 GiB are free in /runs",
    ]


def test_stages_share_a_line_of_a_setting_that_came_to_the_same_in_them(capsys):
    stages = tuple(StagePlan(name, _rehearsal(name)) for name in ("search", "retrain"))
    plan._show_plan(Plan("cpu", stages, Path("/runs"), 10, 2**30), "largest")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    first = lines.index(["setting", "active", "stage", "why"]) + 2
    assert lines[first : first + 3] == [
        ["compile", "off", "search,", "retrain", "because"],
        ["precision", "x", "search", "search"],
        ["precision", "x", "retrain", "retrain"],
    ]
