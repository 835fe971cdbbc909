"""A Ray cluster: one that is there, or one of this machine alone that is started for the time."""

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

from nasframe.core import Ended, Executor, Work, Workers, as_they_end, executors
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

_SECONDS_TO_END: Final = 30.0
_STORE_BYTES: Final = 100 * 2**20
"""Room for what works return, which is small; the data lie on the disk."""


@executors.register("ray")
@final
class Ray(Executor):
    """Runs works on a Ray cluster, each where its resources are free (needs the extra ``ray``).

    Without an address a cluster of this machine is started, and stopped at the end. All machines of a cluster
    must see the folder that is written to, and have nasframe and its plugins.

    Args:
        address: Of a cluster: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; null takes what the environment
            variable ``RAY_ADDRESS`` says, and without it a new one.
        jobs: How many at a time; null for as many as the cluster has resources for.
        cpus: Cores that each takes.
        gpus: GPUs that each takes, also parts of one, such as 0.5; null for one where the cluster has any.
        memory_gib: Memory that each takes.
        retries: How often a work is called again after its process or its machine was lost.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        jobs: PositiveInt | None = None,
        cpus: PositiveFloat = 1.0,
        gpus: NonNegativeFloat | None = None,
        memory_gib: PositiveFloat | None = None,
        retries: NonNegativeInt = 3,
    ) -> None:
        self._address, self._jobs = address, jobs
        self._cpus, self._gpus, self._memory_gib = cpus, gpus, memory_gib
        self._retries = retries

    @contextmanager
    def opened(self, folder: Path, *, lasting: bool = False) -> Iterator[Workers]:
        ray = _ray()
        with self._connected(ray):
            room = ray.cluster_resources()
            resources = self._resources(room)
            jobs = self._jobs or _places(resources, room)
            if not jobs:
                raise UnsupportedError(
                    f"executors: `ray`: the cluster must have room for {_spelled(resources)}, but has "
                    f"{_spelled(room)}; ask for less"
                )
            tasks = _Tasks(ray, resources, self._retries, lasting)
            try:
                yield Workers(jobs, lambda works: tasks.run(works, jobs))
            finally:
                tasks.end()

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        if ray.is_initialized():  # it is the user's, and stays
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if (address := self._address or os.environ.get("RAY_ADDRESS")) is None:
            # what a work does not ask for it may use, as in any other process
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            local = {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            if self._jobs is not None:
                local["num_cpus"] = max(os.cpu_count() or 1, math.ceil(self._jobs * self._cpus))
            quiet |= local
        else:
            quiet["address"] = address
        try:
            with _kept_signals():
                ray.init(**quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"at {address}" if address else "of this machine"
            raise UnsupportedError(
                f"executors: `ray`: a cluster {where} must be there, but {str(error).splitlines()[0]}; start "
                "it, or give another address"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _resources(self, room: dict[str, float]) -> dict[str, float]:
        """What each work takes, by Ray's names."""
        gpus = min(room.get("GPU", 0.0), 1.0) if self._gpus is None else self._gpus
        memory = None if self._memory_gib is None else self._memory_gib * 2**30
        asked = {"CPU": self._cpus, "GPU": gpus, "memory": memory}
        return {name: amount for name, amount in asked.items() if amount}


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Ray would end the process by SIGTERM at once; whoever hears it now shall hear it afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _places(resources: dict[str, float], room: dict[str, float]) -> int:
    return min(int(room.get(name, 0.0) / amount + 1e-9) for name, amount in resources.items())


def _spelled(resources: dict[str, float]) -> str:
    units = {"CPU": 1.0, "GPU": 1.0, "memory": 2.0**30}
    names = {"CPU": "CPU", "GPU": "GPU", "memory": "GiB"}
    return ", ".join(
        f"{resources[name] / unit:.3g} {names[name]}" for name, unit in units.items() if name in resources
    )


@final
class _Tasks:
    """Works as tasks of Ray."""

    def __init__(self, ray: Any, resources: dict[str, float], retries: int, lasting: bool) -> None:
        self._ray, self._retries = ray, retries
        self._task = ray.remote(
            num_cpus=resources.get("CPU", 0),
            num_gpus=resources.get("GPU", 0),
            memory=resources.get("memory"),
            max_retries=retries,
            max_calls=0 if lasting else 1,
        )(_called)
        self._running: dict[Any, Work] = {}

    def run(self, works: Iterable[Work | None], jobs: int) -> Iterator[Ended]:
        return as_they_end(self._submit, works, jobs)

    def _submit(self, work: Work) -> "Future[Ended]":
        reference = self._task.options(name=work.name).remote(work.call)
        self._running[reference] = work
        ended: Future[Ended] = Future()

        def hear(future: "Future[Any]") -> None:
            self._running.pop(reference, None)
            error = future.exception()
            if error is None:
                ended.set_result(Ended(work, future.result()))
            elif isinstance(error, self._ray.exceptions.RayTaskError):
                ended.set_exception(error.cause)  # what the call raised
            else:
                ended.set_result(Ended(work, lost=self._reason(error)))

        reference.future().add_done_callback(hear)
        return ended

    def _reason(self, error: BaseException) -> str:
        what = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        return f"its process or machine was lost {1 + self._retries} times: {what}"

    def end(self) -> None:
        """Interrupt all that run; their runs end with a checkpoint."""
        running = list(self._running)
        for reference in running:
            self._ray.cancel(reference)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=_SECONDS_TO_END)


def _called(call: Callable[[], Any]) -> Any:
    return call()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UnsupportedError(
            f"executors: `ray` needs {error.name}, which is not installed for Python "
            f"{sys.version_info.major}.{sys.version_info.minor}; pip install 'nasframe[ray]'"
        ) from error
    return ray
