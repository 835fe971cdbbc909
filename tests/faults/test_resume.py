"""A run that is stopped and resumed ends as if it had never been stopped, bit for bit."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nasframe import load_recipe, run
from nasframe.core import Checkpoints
from nasframe.errors import FaultWarning, FormatError
from nasframe.recipe import resume

# drop path and flips draw in each step; Adam, momentum and batch norm have states of their own
RECIPE = """
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 40, num_test: 22, num_classes: 3, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, sep_conv_3x3]}
search:
  algorithm: {type: darts_bilevel, alpha_optimizer: {lr: 0.1}, alpha_schedule: cosine}
  augment: [flip, {type: crop, padding: 1}]
  trainer: {epochs: 3, batch_size: 8, optimizer: {lr: 0.1}}
retrain:
  space: {channels: 3, drop_path: 0.4}
  augment: [flip, {type: cutout, length: 2}]
  valid_fraction: 0.4
  trainer: {epochs: 3, batch_size: 8, optimizer: {lr: 0.1}, schedule: {type: cosine, each_step: true}}
"""
KILLS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "kills.py"), run_name="kills")
OUTCOME, LINES = KILLS["outcome"], KILLS["_lines"]
STAGES = ("search", "retrain")  # of 6 and 9 steps: 20 and 24 examples in batches of 8, 3 epochs each


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def unstopped(recipe_file, tmp_path_factory):
    """A run that nobody stopped."""
    return run(load_recipe(recipe_file), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def whole(unstopped):
    """What it left."""
    return OUTCOME(unstopped.folder)


def _status(folder):
    return json.loads((folder / "status.json").read_text())


def test_the_same_recipe_gives_the_same_bit_for_bit(recipe_file, whole, tmp_path):
    torch.rand(7)  # whatever was drawn before
    again = OUTCOME(run(load_recipe(recipe_file), tmp_path / "again").folder)
    for part, expected in whole.items():
        assert again[part] == expected, part


def _stop_at(stage, step, error):
    def progress(this_stage, this_step, num_steps, epoch, metrics):
        if (this_stage, this_step) == (stage, step):
            raise error

    return progress


def _resume(folder, progress=None):
    """Resume, in a later second: TensorBoard reads event files in the order of the second they began in."""
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)
    return resume(folder, progress)


def _check_same(folder, whole):
    result = OUTCOME(folder)
    for part, expected in whole.items():
        assert result[part] == expected, part
    assert (_status(folder)["ended"], _status(folder)["reason"]) == ("done", None)
    assert _status(folder)["finished"] == ["search", "retrain", "report"]
    assert [path.name for path in folder.rglob("*partial*")] == []


@pytest.mark.parametrize(
    ("stage", "step", "error"),
    [
        ("search", 1, KeyboardInterrupt()),  # before the first checkpoint
        ("search", 2, OSError("no space left")),  # the last step of an epoch, before its record
        ("search", 3, KeyboardInterrupt()),
        ("search", 6, OSError("no space left")),
        ("retrain", 1, KeyboardInterrupt()),
        ("retrain", 8, OSError("no space left")),
    ],
)
def test_a_run_that_was_stopped_ends_like_one_that_was_not(recipe_file, whole, tmp_path, stage, step, error):
    folder = tmp_path / "run"
    with pytest.raises(type(error)):
        run(load_recipe(recipe_file), folder, _stop_at(stage, step, error))
    status = _status(folder)
    interrupted = isinstance(error, KeyboardInterrupt)
    assert status["ended"] == ("interrupted" if interrupted else "failed")
    assert status["reason"] == (None if interrupted else "OSError: no space left")
    assert status["steps"][stage] == step
    finished = _resume(folder)
    _check_same(folder, whole)
    assert finished.metrics == whole["metrics"]


def test_a_run_that_was_stopped_three_times_ends_like_one_that_was_not(recipe_file, whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe_file), folder, _stop_at("search", 4, KeyboardInterrupt()))
    for stage, step in (("search", 5), ("retrain", 4)):
        with pytest.raises(KeyboardInterrupt):
            _resume(folder, _stop_at(stage, step, KeyboardInterrupt()))
    _resume(folder)
    _check_same(folder, whole)


def _signal_at(stage, step, *signals):
    """Progress that hears all steps, and sends signals to its own process at one of them."""
    heard = []

    def progress(this_stage, this_step, num_steps, epoch, metrics):
        heard.append((this_stage, this_step))
        if (this_stage, this_step) == (stage, step):
            for number in signals:
                os.kill(os.getpid(), number)

    return heard, progress


@pytest.mark.parametrize(
    ("stage", "step", "number"),
    [
        ("search", 1, signal.SIGINT),  # in the first epoch, before any checkpoint of an epoch
        ("search", 4, signal.SIGINT),  # the last step of an epoch, before its validation
        ("search", 5, signal.SIGTERM),
        ("retrain", 2, signal.SIGTERM),
        ("retrain", 9, signal.SIGINT),  # the last step of all
    ],
)
def test_a_signal_ends_a_run_with_a_checkpoint_of_its_last_step(
    recipe_file, whole, tmp_path, stage, step, number
):
    folder, before = tmp_path / "run", signal.getsignal(number)
    heard, progress = _signal_at(stage, step, number)
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe_file), folder, progress)
    assert signal.getsignal(number) is before
    assert heard[-1] == (stage, step)
    assert (_status(folder)["ended"], _status(folder)["steps"][stage]) == ("interrupted", step)
    assert Checkpoints(folder / stage / "checkpoints").latest()["step"] == step
    heard_later, progress = _signal_at("", 0)
    _resume(folder, progress)
    all_steps = [("search", index) for index in range(1, 7)] + [("retrain", index) for index in range(1, 10)]
    assert heard + heard_later == all_steps
    _check_same(folder, whole)


_SIGNALS_TWICE = """
import json, os, signal, sys, time
from contextlib import contextmanager

import nasframe.cli.run
import nasframe.recipe.running

def held():
    os.write(tell, b"held")
    time.sleep(300)

@contextmanager
def holding_progress(quiet):
    def progress(this_stage, this_step, *others):
        if f"{this_stage} {this_step}" == place:
            held()
    progress.prefer = lambda architecture: None
    yield progress

def holding_fsync(number):
    if os.readlink(f"/proc/self/fd/{number}").endswith(".pt.partial"):
        held()

legs, (recipe, folder) = [], sys.argv[1:]
for place, name in (("search 4", "SIGTERM"), ("checkpoint", "SIGINT"), ("retrain 5", "SIGTERM")):
    (told, tell), number = os.pipe(), signal.Signals[name]
    arguments = ["resume", folder] if legs else ["run", recipe, "--out", folder]
    process = os.fork()
    if process == 0:
        if place == "checkpoint":
            os.fsync = holding_fsync
        else:
            nasframe.cli.run.shown_progress = holding_progress
        try:
            nasframe.cli.main(arguments)
        except SystemExit as error:
            os._exit(error.code)
    os.close(tell)
    assert os.read(told, 4) == b"held", place
    os.kill(process, number)
    time.sleep(0.3)
    ended, _ = os.waitpid(process, os.WNOHANG)
    os.kill(process, number)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = json.loads(open(f"{folder}/status.json").read())["ended"]
    legs.append({"place": place, "ended by the first": ended != 0, "code": code, "status": status})
print(json.dumps(legs))
"""


def test_a_process_that_gets_a_second_signal_ends_at_once_in_a_step_or_a_checkpoint_and_harms_nothing(
    recipe_file, whole, tmp_path
):
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALS_TWICE, str(recipe_file), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,  # below the time that each leg would be held
    )
    assert done.returncode == 0, done.stderr
    legs = json.loads(done.stdout.splitlines()[-1])
    assert [leg.pop("place") for leg in legs] == ["search 4", "checkpoint", "retrain 5"]
    assert legs == [{"ended by the first": False, "code": 130, "status": "interrupted"}] * 3
    assert done.stderr.count(f"interrupted; go on with: nasframe resume {folder}") == 3
    assert Checkpoints(folder / "retrain" / "checkpoints").latest()["step"] == 3  # the first epoch's
    _resume(folder)
    _check_same(folder, whole)


_INTERRUPTS_VALIDATION = """
import os, signal
import torch
from nasframe.objectives.cross_entropy import CrossEntropy

class Interrupting(CrossEntropy):
    "Sends SIGINT in the first validation after the second step."

    passes = 0

    def loss(self, outputs, targets):
        if not torch.is_grad_enabled() and not Interrupting.passes:
            Interrupting.passes += 1
            os.kill(os.getpid(), signal.SIGINT)
        return super().loss(outputs, targets)
"""


def test_a_signal_in_validation_keeps_the_steps_of_the_epoch(tmp_path, third_party):
    third_party("impatient", _INTERRUPTS_VALIDATION, objectives="interrupting = Interrupting")
    path, folder = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(RECIPE + "objective: interrupting\n")
    heard, progress = _signal_at("", 0)
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(path, ["search.trainer.epochs=1", "retrain.trainer.epochs=1"]), folder, progress)
    assert heard == [("search", 1), ("search", 2)]
    assert Checkpoints(folder / "search" / "checkpoints").latest()["step"] == 2
    _resume(folder, progress)
    assert heard == [("search", 1), ("search", 2), ("retrain", 1), ("retrain", 2), ("retrain", 3)]
    assert len(LINES(folder / "search" / "metrics.jsonl")) == 1


@pytest.mark.parametrize("setting", ["checkpoint_steps=1", "checkpoint_minutes=1e-9"])
def test_a_run_that_was_killed_between_two_epochs_goes_on_from_its_last_checkpoint(
    recipe_file, whole, tmp_path, setting
):
    folder = tmp_path / "run"
    often = [f"{stage}.trainer.{setting}" for stage in STAGES]
    with pytest.raises(OSError, match="no space left"):
        run(load_recipe(recipe_file, often), folder, _stop_at("search", 5, OSError("no space left")))
    assert Checkpoints(folder / "search" / "checkpoints").latest()["step"] == 4
    heard, progress = _signal_at("", 0)
    _resume(folder, progress)
    assert heard[0] == ("search", 5)
    result = OUTCOME(folder)
    for part in whole.keys() - {"recipe"}:
        assert result[part] == whole[part], part


def test_a_checkpoint_that_is_torn_gives_way_to_the_one_before_it(recipe_file, whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe_file), folder, _stop_at("retrain", 7, KeyboardInterrupt()))
    torn = folder / "retrain" / "checkpoints" / "step-000000006.pt"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    with pytest.warns(FaultWarning, match="going on from the checkpoint before it, of step 3"):
        _resume(folder)
    _check_same(folder, whole)


def test_a_run_whose_checkpoints_are_all_torn_is_refused_and_not_begun_anew(recipe_file, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe_file), folder, _stop_at("search", 3, KeyboardInterrupt()))
    for path in (folder / "search" / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    before = (folder / "search" / "metrics.jsonl").read_text()
    with pytest.raises(FormatError, match="no checkpoint can be read"):
        resume(folder)
    assert _status(folder)["ended"] == "failed"
    assert (folder / "search" / "metrics.jsonl").read_text() == before


def test_resuming_a_finished_run_does_nothing_and_returns_the_same(unstopped):
    def content():
        return {path: path.read_bytes() for path in unstopped.folder.rglob("*") if path.is_file()}

    before, heard = content(), []
    assert resume(unstopped.folder, lambda *told: heard.append(told)) == unstopped
    assert heard == []
    assert content() == before


_FAILS_ONCE = """
from pathlib import Path
from nasframe.core import Report

class FailsOnce(Report):
    "Fails the first time."

    def __init__(self):
        pass

    def write(self, run_dir: Path) -> Path:
        path = run_dir / "report.html"
        if not path.exists():
            path.write_text("half")
            raise OSError("no space left")
        path.write_text("all")
        return path
"""


def test_a_report_that_failed_is_written_again_without_training_again(recipe_file, tmp_path, third_party):
    third_party("flaky", _FAILS_ONCE, reports="fails_once = FailsOnce")
    folder, heard = tmp_path / "run", []
    with pytest.raises(OSError, match="no space left"):
        run(load_recipe(recipe_file, ["report=fails_once", "search.trainer.epochs=1", "trackers=[]"]), folder)
    assert (_status(folder)["ended"], _status(folder)["finished"]) == ("failed", ["search", "retrain"])
    finished = resume(folder, lambda *told: heard.append(told))
    assert heard == []
    assert finished.report.read_text() == "all"


_RUN_SLOWLY = """
import sys, time
from pathlib import Path
from nasframe import load_recipe, run

run(load_recipe(sys.argv[1]), Path(sys.argv[2]), lambda *told: time.sleep(0.3))
"""


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_one_that_was_not(recipe_file, whole, tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", _RUN_SLOWLY, str(recipe_file), str(folder)])
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("search/checkpoints/step-*.pt")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert _status(folder)["ended"] == "running"
    assert list(folder.glob("search/checkpoints/step-*.pt"))
    _resume(folder)
    _check_same(folder, whole)
