"""Processes of this machine."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, final

import torch

from nasframe.core import Ended, Executor, Work, Workers, as_they_end, executors
from nasframe.types import NonNegativeInt, PositiveInt

_SECONDS_TO_END: Final = 60.0


@executors.register("processes")
@final
class Processes(Executor):
    """Runs works in processes of this machine; one at a time in this process itself.

    Each process has one thread, unless a recipe says `threads`, and hears no key of the terminal. Where there
    are several GPUs, it sees one of them. When this process is killed, the others end with a checkpoint.

    Args:
        jobs: How many at a time.
        retries: How often a work whose process was killed is called again.
    """

    def __init__(self, *, jobs: PositiveInt = 1, retries: NonNegativeInt = 3) -> None:
        self._jobs, self._retries = jobs, retries

    @contextmanager
    def opened(self, folder: Path, *, lasting: bool = False) -> Iterator[Workers]:
        if self._jobs == 1:
            yield Workers(1, _here)
            return
        crew = _Crew(self._jobs, self._retries, lasting)
        try:
            yield Workers(self._jobs, crew.run)
        finally:
            crew.end()


def _here(works: Iterable[Work | None]) -> Iterator[Ended]:
    coming = iter(works)
    while (work := next(coming, None)) is not None:
        yield Ended(work, work.call())


@final
@dataclass(frozen=True)
class _Process:
    pool: ProcessPoolExecutor
    place: int


@final
class _Crew:
    """A thread for each process, which waits for it, so that one that is killed takes no other with it."""

    def __init__(self, jobs: int, retries: int, lasting: bool) -> None:
        self._jobs, self._retries, self._lasting = jobs, retries, lasting
        self._threads = ThreadPoolExecutor(jobs)
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._places: SimpleQueue[int] = SimpleQueue()
        for place in range(jobs):
            self._places.put(place)
        self._starting, self._is_ending = threading.Lock(), False

    def run(self, works: Iterable[Work | None]) -> Iterator[Ended]:
        return as_they_end(lambda work: self._threads.submit(self._ended, work), works, self._jobs)

    def _ended(self, work: Work) -> Ended:
        for _ in range(1 + self._retries):
            with suppress(BrokenProcessPool):
                return Ended(work, self._value(work))
        return Ended(work, lost=killed(1 + self._retries))

    def _value(self, work: Work) -> Any:
        try:
            process = self._idle.get_nowait()
        except Empty:
            process = self._started(self._places.get())
        try:
            with self._starting:
                if self._is_ending:
                    raise BrokenProcessPool
                future = process.pool.submit(_called, work.call)
            value = future.result()
        except BaseException:
            self._stop(process)
            raise
        if self._lasting:
            self._idle.put(process)
        else:
            self._stop(process)
        return value

    def _started(self, place: int) -> _Process:
        begin = partial(_alone, gpu_of(place, torch.cuda.device_count()))
        return _Process(ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin), place)

    def _stop(self, process: _Process) -> None:
        process.pool.shutdown()
        self._places.put(process.place)

    def end(self) -> None:
        """Tell all that run to end, which their runs do with a checkpoint, and wait for them."""
        with self._starting:
            self._is_ending = True
            for child in multiprocessing.active_children():
                child.terminate()
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._stop(self._idle.get())


def killed(times: int) -> str:
    """Why a work has no value."""
    how_often = "once" if times == 1 else f"{times} times"
    return f"its process was killed {how_often}, such as for a lack of memory"


def gpu_of(place: int, count: int) -> str | None:
    """What ``CUDA_VISIBLE_DEVICES`` says to the process at a place; None where it stays as it is.

    Args:
        place: From 0 on.
        count: GPUs that this process sees.
    """
    if count < 2:
        return None
    seen = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    names = seen or [str(index) for index in range(count)]
    return names[place % count]


_is_orphan: Final = threading.Event()


def _called(call: Callable[[], Any]) -> Any:
    try:
        return call()
    finally:
        if _is_orphan.is_set():  # nobody waits for what it returned
            os._exit(1)


def _alone(gpu: str | None) -> None:
    """Let a process hear no key of the terminal, since it is told when to end, and not outlive its parent."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _is_orphan.set()
        os.kill(os.getpid(), signal.SIGTERM)  # a run ends with a checkpoint
        time.sleep(_SECONDS_TO_END)
        os._exit(1)
