"""SLURM, by submitit: an array of jobs, which are found again when this process is started again."""

import json
import math
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, final

from nasframe.core import Ended, Executor, Interrupts, Work, Workers, executors
from nasframe.core.json_text import read_json_file
from nasframe.core.storage import write_whole
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, PositiveFloat, PositiveInt

_POLL_SECONDS: Final = 5.0
_SIGNAL_SECONDS: Final = 120
_RAISED: Final = re.compile(r"^[\w.]+(?:Error|Exception|Interrupt|Exit)\b.*", re.MULTILINE)


@executors.register("slurm")
@final
class Slurm(Executor):
    """Runs works as jobs of SLURM, submitted by submitit as one array (needs the extra ``slurm``).

    Start it where ``sbatch`` is; all nodes must see the folder that is written to. A job that is preempted,
    or whose time is over, ends with a checkpoint, is put into the queue again, and goes on. When this process
    ends, its jobs stay in the queue; the same command finds them again.

    Args:
        jobs: How many of them run at a time.
        partition: Where they run; null for the cluster's default. So are the next three.
        account: Who pays for them.
        qos: Their quality of service.
        constraint: Features that their nodes must have.
        minutes: How long one may run until it is put into the queue again.
        cpus: Cores that each takes.
        gpus: GPUs that each takes.
        memory_gib: Memory that each takes; null for the cluster's default.
        retries: How often a job whose time was over is put into the queue again.
        setup: Lines of shell that come first, such as ``module load python``.
        more: Other options of ``sbatch``, without their dashes.
    """

    def __init__(
        self,
        *,
        jobs: PositiveInt = 16,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        minutes: PositiveInt = 60,
        cpus: PositiveInt = 1,
        gpus: NonNegativeInt = 0,
        memory_gib: PositiveFloat | None = None,
        retries: NonNegativeInt = 3,
        setup: tuple[str, ...] = (),
        more: dict[str, str] | None = None,
    ) -> None:
        asked = {
            "array_parallelism": jobs,
            "partition": partition,
            "account": account,
            "qos": qos,
            "constraint": constraint,
            "time": minutes,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem": None if memory_gib is None else f"{math.ceil(1024 * memory_gib)}M",
            "setup": list(setup) or None,
            "additional_parameters": more or None,
            "signal_delay_s": _SIGNAL_SECONDS,
            "job_name": "nasframe",
        }
        self._parameters = {name: value for name, value in asked.items() if value is not None}
        self._jobs, self._retries = jobs, retries

    @contextmanager
    def opened(self, folder: Path, *, lasting: bool = False) -> Iterator[Workers]:
        submitit = _submitit()
        logs = folder / "slurm"
        try:
            submitter = submitit.SlurmExecutor(logs, max_num_timeout=self._retries)
        except RuntimeError as error:
            raise UnsupportedError(
                "executors: `slurm`: must be started on a machine of the cluster, where `sbatch` and `srun` "
                "are, but they are not here; --dry-run shows what would be submitted"
            ) from error
        submitter.update_parameters(**self._parameters)
        yield Workers(self._jobs, _Queue(submitit, submitter, logs).run)

    def preview(self, folder: Path, count: int) -> str:
        submitit = _submitit()

        class Elsewhere(submitit.SlurmExecutor):  # type: ignore[misc, name-defined]
            """Submits nothing, and so needs no cluster."""

            @classmethod
            def affinity(cls) -> int:
                return 2

        submitter = Elsewhere(folder / "slurm", max_num_timeout=self._retries)
        submitter.update_parameters(**self._parameters)
        if count > 1:
            submitter.parameters["map_count"] = count
        text: str = submitter._make_submission_file_text(submitter._submitit_command_str, "")
        return text


@final
class _Queue:
    """The jobs of works: ``jobs.json`` has their numbers until their results are here."""

    def __init__(self, submitit: Any, submitter: Any, folder: Path) -> None:
        self._submitit, self._submitter = submitit, submitter
        self._folder, self._path = folder, folder / "jobs.json"
        self._numbers: dict[str, str] = read_json_file(self._path) if self._path.exists() else {}

    def run(self, works: Iterable[Work | None]) -> Iterator[Ended]:
        running: list[tuple[Work, Any]] = []
        coming = iter(works)
        while True:
            running += self._submitted(list(iter(lambda: next(coming, None), None)))
            if not running:
                return
            ended = [(work, job) for work, job in running if job.done()]
            if not ended:
                time.sleep(_POLL_SECONDS)
            for work, job in ended:
                running.remove((work, job))
                outcome = self._outcome(work, job)
                del self._numbers[work.name]
                self._keep()
                yield outcome

    def _submitted(self, works: list[Work]) -> Iterator[tuple[Work, Any]]:
        """The jobs of works; those that were submitted before are found again."""
        new = [work for work in works if work.name not in self._numbers]
        if new:
            with self._submitter.batch():
                jobs = [self._submitter.submit(Preemptible(work.call)) for work in new]
            self._numbers |= {work.name: job.job_id for work, job in zip(new, jobs, strict=True)}
            self._keep()
        for work in works:
            yield work, self._submitit.SlurmJob(self._folder, self._numbers[work.name])

    def _keep(self) -> None:
        write_whole(self._path, json.dumps(self._numbers, indent=1) + "\n")

    def _outcome(self, work: Work, job: Any) -> Ended:
        errors = self._submitit.core.utils
        try:
            return Ended(work, job.result())
        except (errors.FailedJobError, errors.UncompletedJobError) as error:
            said = _RAISED.findall(str(error)) or str(error).splitlines()[:1]
            return Ended(work, lost=f"job {job.job_id} has no result: {' '.join(said[-1:])}")


@final
class Preemptible:
    """A call that ends with a checkpoint when SLURM wants its place, and is then queued again.

    submitit would queue it in the middle of a step. Here its signal becomes SIGTERM, which a run ends by
    between two steps, and submitit hears of it afterwards.

    Args:
        call: What is done, from where it left off.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def __call__(self) -> Any:
        told: list[int] = []
        queue_again = signal.getsignal(signal.SIGUSR2)

        def end(number: int, frame: FrameType | None) -> None:
            told.append(number)
            signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGUSR2, end)
        try:
            with Interrupts():
                return self._call()
        except KeyboardInterrupt:
            if told and callable(queue_again):
                queue_again(signal.SIGUSR2, None)  # ends this process
            raise
        finally:
            signal.signal(signal.SIGUSR2, queue_again)

    def checkpoint(self) -> Any:
        """What submitit queues again."""
        return _submitit().helpers.DelayedSubmission(self)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UnsupportedError(
            f"executors: `slurm` needs {error.name}, which is not installed; pip install 'nasframe[slurm]'"
        ) from error
    return submitit
