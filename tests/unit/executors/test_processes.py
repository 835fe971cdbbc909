"""Works in processes of this machine, one of which is killed."""

import os
from functools import partial
from pathlib import Path

import pytest

from nasframe.core import Work
from nasframe.executors.processes import Processes, gpu_of

BE_KILLED = """
import os, signal
with open({path!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_work_whose_process_is_killed_is_called_again_and_told_as_lost_when_that_is_too_often(
    tmp_path: Path,
) -> None:
    work = Work("one", partial(exec, BE_KILLED.format(path=str(tmp_path / "calls"))))
    with Processes(jobs=2, retries=1).opened(tmp_path) as workers:
        (found,) = workers.run([work])
    assert (found.work, found.value) == (work, None)
    assert "its process was killed 2 times" in found.lost
    processes = (tmp_path / "calls").read_text().splitlines()
    assert len(processes) == len(set(processes) - {str(os.getpid())}) == 2


def test_one_job_runs_in_this_process_one_work_after_the_other(tmp_path: Path) -> None:
    called: list[str] = []
    with Processes().opened(tmp_path) as workers:
        running = workers.run([Work(name, partial(called.append, name)) for name in "ab"])
        assert (next(running).work.name, called) == ("a", ["a"])
        assert (next(running).work.name, called) == ("b", ["a", "b"])


@pytest.mark.parametrize(
    ("visible", "place", "count", "expected"),
    [("", 0, 1, None), ("", 0, 0, None), ("", 1, 4, "1"), ("", 5, 4, "1"), ("6, 7", 1, 2, "7")],
)
def test_processes_are_spread_over_the_gpus_that_are_seen(
    monkeypatch: pytest.MonkeyPatch, visible: str, place: int, count: int, expected: str | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_of(place, count) == expected
