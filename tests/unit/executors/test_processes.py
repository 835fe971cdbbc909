"""Works in processes of this machine, one of which is killed."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from nasframe.core import Ended, Work
from nasframe.executors.processes import Processes, gpu_of


def killed_at_first(folder: Path, times: int) -> int:
    """Be killed so many times, and then say which process it is."""
    calls = folder / "calls"
    with calls.open("a") as file:
        file.write("called\n")
    if len(calls.read_text().splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def ended(folder: Path, executor: Processes, *works: Work) -> list[Ended]:
    with executor.opened(folder) as workers:
        return list(workers.run(works))


def test_a_work_whose_process_was_killed_is_called_again(tmp_path: Path) -> None:
    work = Work("one", partial(killed_at_first, tmp_path, 1))
    (found,) = ended(tmp_path, Processes(jobs=2), work)
    assert (found.work, found.lost) == (work, "")
    assert found.value != os.getpid()
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_what_is_killed_too_often_is_told_as_lost(tmp_path: Path) -> None:
    (found,) = ended(
        tmp_path, Processes(jobs=2, retries=0), Work("one", partial(killed_at_first, tmp_path, 9))
    )
    assert found.value is None
    assert "killed once" in found.lost
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


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
