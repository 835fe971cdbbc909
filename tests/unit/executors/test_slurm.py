"""Jobs of SLURM: what is submitted, found again, and queued again. The cluster here is three scripts."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from nasframe.core import Work
from nasframe.errors import UnsupportedError
from nasframe.executors import slurm
from nasframe.executors.slurm import Preemptible, Slurm

submission = pytest.importorskip("submitit.core.submission")

SBATCH = """\
#!/bin/sh
echo "$@" >> "$(dirname "$0")/submitted"
echo Submitted batch job 7
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the scripts."""
    scripts = {"sbatch": SBATCH, "srun": "#!/bin/sh\n", "sacct": "#!/bin/sh\necho 'JobID|State|NodeList'\n"}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    numbers = (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run_jobs(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Runs both jobs, as the cluster would."""

    def run(seconds: float) -> None:
        for index in ("0", "1"):
            monkeypatch.setenv("SLURM_JOB_ID", "7")
            monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", index)
            monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
            try:
                submission.process_job(cluster / "out" / "slurm")
            except ZeroDivisionError:
                continue

    return run


def works() -> list[Work]:
    return [Work(str(divisor), partial(divmod, 6, divisor)) for divisor in (3, 0)]


def test_jobs_are_submitted_once_and_found_again_after_the_driver_is_gone(
    cluster: Path, run_jobs: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", gone)
    with Slurm().opened(cluster / "out") as workers, pytest.raises(KeyboardInterrupt):
        list(workers.run(works()))
    monkeypatch.setattr(slurm.time, "sleep", run_jobs)
    with Slurm().opened(cluster / "out") as workers:
        done, failed = workers.run(works())
    assert (done.work.name, done.value, done.lost) == ("3", (2, 0), "")
    assert (failed.work.name, failed.value) == ("0", None)
    assert "ZeroDivisionError" in failed.lost
    assert len((cluster / "submitted").read_text().splitlines()) == 1


def test_a_dry_run_shows_what_would_be_submitted(tmp_path: Path) -> None:
    executor = Slurm(
        jobs=4, partition="gpu", minutes=90, cpus=2, gpus=1, memory_gib=1.5, setup=("module load python",),
        more={"mail-type": "END"},
    )  # fmt: skip
    text = executor.preview(tmp_path, 6).splitlines()
    for option in (
        "array=0-5%4", "partition=gpu", "time=90", "cpus-per-task=2", "gpus-per-node=1", "mem=1536M",
        "mail-type=END", "signal=USR2@120",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in text
    assert text.index("module load python") < len(text) - 1
    assert text[-1].startswith("srun ") or text[-2].startswith("srun ")
    assert list(tmp_path.iterdir()) == []


def test_away_from_a_cluster_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="on a machine of the cluster"), Slurm().opened(tmp_path):
        pass


def test_a_job_that_is_preempted_is_queued_again_after_its_checkpoint(cluster: Path) -> None:
    happened: list[str] = []

    def train() -> None:
        try:
            signal.raise_signal(signal.SIGUSR2)
            happened.append("went on")
        except KeyboardInterrupt:
            happened.append("checkpoint")
            raise

    def queue_again(number: int, frame: object) -> None:  # what submitit has put there
        happened.append("queued again")
        raise SystemExit

    signal.signal(signal.SIGUSR2, queue_again)
    call = Preemptible(train)
    with pytest.raises(SystemExit):
        call()
    assert happened == ["checkpoint", "queued again"]
    assert call.checkpoint().function is call
