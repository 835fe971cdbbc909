"""A long run takes no more memory, files and threads than a short one."""

import runpy
from pathlib import Path

import pytest

HEALTH = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "health.py"), run_name="health")


def test_epoch_after_epoch_no_file_stays_open_and_no_thread_is_left(tmp_path):
    found = HEALTH["samples"](60, tmp_path, batches_an_epoch=6)  # ten epochs
    assert found["step"] == list(range(1, 61))
    assert not {"open_files", "threads"} & set(HEALTH["faults"](found))
    after = found["rss_bytes"][len(found["step"]) // 2 :]
    assert max(after) - min(after) < 16 * 2**20


def test_what_rises_after_the_warm_up_is_told_with_its_slope():
    steps = list(range(0, 1000, 10))
    steady = {
        "step": steps,
        "rss_bytes": [10**9] * 100,
        "open_files": [5] * 20 + [9] * 80,
        "threads": [2] * 100,
    }
    assert HEALTH["faults"](steady) == []  # what comes up in the warm-up may stay
    leaking = {**steady, "rss_bytes": [10**9 + 3000 * step for step in steps], "threads": [2] * 99 + [3]}
    assert HEALTH["faults"](leaking) == ["threads", "rss_bytes"]
    assert HEALTH["slopes"](leaking)["rss_bytes"] == pytest.approx(3000)
    assert HEALTH["slopes"](leaking)["open_files"] == pytest.approx(0)
