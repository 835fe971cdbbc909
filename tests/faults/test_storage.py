"""A run goes on where something cannot be written, and says what; two processes never share a run."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, suppress

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasframe import load_recipe, run
from nasframe.cli import main
from nasframe.core import Record
from nasframe.errors import FaultWarning, StorageError
from nasframe.recipe import resume
from nasframe.recipe.run_directory import RunDirectory
from nasframe.trackers.jsonl import Jsonl
from nasframe.trackers.tensorboard import TensorBoard

RECIPE = """
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 24, num_test: 8, num_classes: 2, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 2, nodes: 1, operations: [skip_connect, sep_conv_3x3]}
search: {trainer: {epochs: 3, batch_size: 6, checkpoint_steps: 1}}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""


@pytest.fixture(scope="module", autouse=True)
def disk():
    """The real one; the tests of other things do not wait until it has what is written."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return load_recipe(path, check=False)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """A run to which nothing happened."""
    return run(recipe, tmp_path_factory.mktemp("runs") / "whole")


def _steps(run_dir, stage="search"):
    return [json.loads(line)["step"] for line in (run_dir / stage / "metrics.jsonl").read_text().splitlines()]


@contextmanager
def _told():
    """The messages of all warnings."""
    messages = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(each.message) for each in caught if issubclass(each.category, FaultWarning)]


def _fill(path):
    """Take all the room that a disk has."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def _at(stage, step, act):
    def progress(this_stage, this_step, num_steps, epoch, metrics):
        if (this_stage, this_step) == (stage, step):
            act()

    return progress


_HOLDS = """
import sys, time
from pathlib import Path
from nasframe.recipe.run_directory import RunDirectory

with RunDirectory.open(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_that_a_living_process_holds_is_refused_by_its_owner_s_name_and_a_dead_one_s_is_taken(tmp_path):
    folder = RunDirectory.create(tmp_path / "run", "tiny", RECIPE, "cpu").root
    before = (folder / "status.json").read_text()
    process = subprocess.Popen([sys.executable, "-c", _HOLDS, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(
            StorageError, match=f"held by process {process.pid} on {platform.node()}, since 2"
        ):
            resume(folder)
        assert json.loads((folder / "status.json").read_text())["owner"]["pid"] == process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with RunDirectory.open(folder).held():
        assert json.loads((folder / "status.json").read_text())["owner"]["pid"] == os.getpid()
    assert json.loads((folder / "status.json").read_text()) == {**json.loads(before), "owner": None}


def test_a_run_whose_disk_fills_up_goes_on_as_far_as_it_can_and_is_resumed_when_there_is_room(
    recipe, whole, small_disk
):
    folder, filler = small_disk / "run", small_disk / "filler"
    with _told() as told, pytest.raises(StorageError, match=r"genotype\.json: must be .* No space left"):
        run(recipe, folder, _at("search", 3, lambda: _fill(filler)))
    for file in ("step-000000004.pt", "tensorboard", "status.json"):
        assert any(file in message and "No space left on device" in message for message in told), file
    filler.unlink()
    finished = resume(folder)
    assert (finished.genotype, finished.metrics) == (whole.genotype, whole.metrics)
    assert _steps(folder) == [1, 2, 3]


def test_a_run_whose_folder_is_deleted_goes_on_to_the_same_result_and_says_so(recipe, whole, tmp_path):
    folder = tmp_path / "run"
    with _told() as told:
        finished = run(recipe, folder, _at("search", 5, lambda: shutil.rmtree(folder)))
    assert any("recipe.yaml: was deleted while the run goes on" in message for message in told)
    assert (finished.genotype, finished.metrics) == (whole.genotype, whole.metrics)
    assert _steps(folder) == [3]
    assert (folder / "recipe.yaml").read_text() == (whole.folder / "recipe.yaml").read_text()


def test_a_run_without_room_for_tensorboard_goes_on_without_it_and_says_so(recipe, whole, tmp_path):
    folder = tmp_path / "run"

    def block():
        shutil.rmtree(folder / "retrain" / "tensorboard")
        (folder / "retrain" / "tensorboard").write_text("in the way")

    with _told() as told:
        finished = run(recipe, folder, _at("retrain", 2, block))
    assert any("tracker tensorboard has no records of epochs 1" in message for message in told)
    assert finished.metrics == whole.metrics
    assert _steps(folder, "retrain") == [1]


def test_lines_that_find_no_room_are_written_later(small_disk):
    tracker, filler = Jsonl(small_disk / "search", 1), small_disk / "filler"
    tracker.log(Record(1, {"loss": 1.0}))
    _fill(filler)
    with pytest.warns(FaultWarning, match="No space left on device; lines wait until it is"):
        tracker.log(Record(2, {f"tag/{index}": 1.0 for index in range(400)}))
    filler.unlink()
    tracker.log(Record(3, {"loss": 3.0}))
    tracker.close()
    assert _steps(small_disk) == [1, 2, 3]


def test_after_a_clock_was_set_back_events_are_read_in_their_order(tmp_path):
    for start, stop in [(1, 5), (3, 7)]:
        tracker = TensorBoard(tmp_path, start)
        for step in range(start, stop):
            tracker.log(Record(step, {"value": float(step)}))
        tracker.close()
        if start == 1:  # an hour ahead
            (file,) = (tmp_path / "tensorboard").iterdir()
            second = file.name.split(".")[3]
            file.rename(file.with_name(file.name.replace(second, str(int(time.time()) + 3600))))
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("value")] == [1, 2, 3, 4, 5, 6]


def test_a_folder_that_refuses_is_told_on_the_command_line_without_a_traceback(
    refusing_folder, tmp_path, capsys
):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--out", str(refusing_folder / "run")])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" not in said
    assert "must be a folder that can be made, but Operation not permitted" in said


@pytest.mark.slow
def test_sigterm_ends_a_run_with_a_checkpoint_the_exit_code_130_and_a_status(tmp_path):
    path, folder = tmp_path / "tiny.yaml", tmp_path / "run"
    path.write_text(RECIPE)
    command = [sys.executable, "-m", "nasframe", "run", path, "search.trainer.epochs=1000", "--out", folder]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob("search/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.rstrip().endswith(f"interrupted; go on with: nasframe resume {folder}")
    assert "Traceback" not in said
    status = json.loads((folder / "status.json").read_text())
    assert (status["ended"], status["owner"]) == ("interrupted", None)
    steps = [int(path.stem.removeprefix("step-")) for path in folder.glob("search/checkpoints/*.pt")]
    assert max(steps) == status["steps"]["search"]
