"""A sweep on a real Ray cluster, whose workers and driver are killed: nothing is lost or done twice."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nasframe.core import executors
from nasframe.recipe import load_recipe, run
from nasframe.study.sweep import load_sweep, run_sweep

RECIPE = """\
name: killed
device: cpu
threads: 1
data: {type: synthetic, num_train: 32, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1, 1], features: 8}
search: {valid_fraction: 0.25, trainer: {epochs: 3, batch_size: 16}}
retrain: {trainer: {epochs: 2, batch_size: 16}}
trackers: [jsonl, counting]
"""
PLUGIN = '''\
"""Counts the epochs of all runs; in the one with seed 1 it kills its own process, then the driver."""

import os
import signal
import time
from pathlib import Path

from nasframe.core import Tracker, trackers

HERE = Path(__file__).parent


@trackers.register("counting")
class Counting(Tracker):
    """Writes a line for each epoch."""

    def __init__(self, directory, start):
        self.where = f"{directory.parent.name} {directory.name}"
        self.has_trouble = "sweep" in str(directory) and self.where == "seed=1 search"
        with (HERE / "begun").open("a") as file:
            file.write(f"{self.where} {os.getpid()}\\n")

    def log(self, record):
        if self.has_trouble and record.step == 2 and first("worker"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.has_trouble and record.step == 3 and first("driver"):
            while not (HERE / "sweep" / "sweep.jsonl").exists():  # the other run has ended
                time.sleep(0.05)
            os.kill(int((HERE / "pid").read_text()), signal.SIGKILL)
            time.sleep(60)
        with (HERE / "epochs").open("a") as file:
            file.write(f"{self.where} {record.step}\\n")

    def close(self):
        pass


def first(what):
    try:
        (HERE / f"killed_{what}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))  # which importing Ray makes longer
        ray = pytest.importorskip("ray")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
            object_store_memory=80 * 2**20, _node_ip_address="127.0.0.1",
        )  # fmt: skip
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="module")
def killed(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a sweep that went through both kills, and what was found."""
    folder = tmp_path_factory.mktemp("killed")
    recipe, plugin, out = folder / "killed.yaml", folder / "counting.py", folder / "sweep"
    recipe.write_text(RECIPE)
    plugin.write_text(PLUGIN)
    command = [sys.executable, "-m", "nasframe", "sweep", str(recipe), "seed=0,1", "--out", str(out)]
    with subprocess.Popen([*command, "--plugin", str(plugin), "--on", "ray", "--address", cluster]) as driver:
        (folder / "pid").write_text(str(driver.pid))
        assert driver.wait(200) == -9
    told: list[str] = []
    sweep = load_sweep(recipe, ["seed=0,1"], [plugin], check=False)
    found = run_sweep(sweep, out, executor=executors.component("ray"), say=told.append)
    assert told[0].startswith("2 runs, 1 of them done")
    return folder, found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_workers_and_the_driver_were_killed(killed: tuple[Path, dict[str, Any]]) -> None:
    begun = [line.rsplit(" ", 1) for line in lines(killed[0] / "begun")]
    processes = Counter(where for where, _ in {(where, pid) for where, pid in begun})
    assert processes["seed=0 search"] == 1
    assert processes["seed=1 search"] == 3
    assert str(os.getpid()) not in {pid for _, pid in begun}


def test_no_epoch_is_lost_and_none_is_done_twice(killed: tuple[Path, dict[str, Any]]) -> None:
    stages = [("search", 3), ("retrain", 2)]
    epochs = {
        f"seed={seed} {stage} {epoch + 1}"
        for seed in (0, 1)
        for stage, count in stages
        for epoch in range(count)
    }
    assert Counter(lines(killed[0] / "epochs")) == dict.fromkeys(epochs, 1)
    rows = [json.loads(line) for line in lines(killed[0] / "sweep" / "sweep.jsonl")]
    assert sorted(row["run"] for row in rows) == ["runs/seed=0", "runs/seed=1"]
    assert all(row["failure"] is None for row in rows)


def test_what_was_killed_finds_what_is_found_undisturbed(
    killed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, found = killed
    calm = run(load_recipe(folder / "killed.yaml", ["seed=1"], check=False), tmp_path / "calm")
    row = found["runs"][1]
    assert row["metrics"] == calm.metrics
    weights = Path("retrain") / "model.safetensors"
    assert (folder / "sweep" / row["run"] / weights).read_bytes() == (calm.folder / weights).read_bytes()
