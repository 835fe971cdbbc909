"""Executors: where pieces of work that do not depend on each other are run."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

from nasframe.registry import Registry


@final
@dataclass(frozen=True)
class Work:
    """A piece of work that can be sent to another process.

    It must bear to be called again after a call of it was killed, and go on from there.

    Attributes:
        name: Tells it from the others, also when the same work is started again.
        call: Does it; it, and what it returns, can be pickled.
    """

    name: str
    call: Callable[[], Any]


@final
@dataclass(frozen=True)
class Ended:
    """A piece of work that came to its end.

    Attributes:
        work: Which.
        value: What its call returned.
        lost: Why it has no value, where whatever ran it was killed too often; empty otherwise.
    """

    work: Work
    value: Any = None
    lost: str = ""


Run: TypeAlias = Callable[[Iterable[Work | None]], Iterator[Ended]]
"""Runs works, and yields each as it ends, in any order. It takes the next one when there is room for it;
None means that there is none before another result is out. What a call raises is raised."""


@final
@dataclass(frozen=True)
class Workers:
    """What runs works, ready.

    Attributes:
        jobs: How many run at a time.
        run: Runs them.
    """

    jobs: int
    run: Run


class Executor(ABC):
    """Runs pieces of work that do not depend on each other: trials of a study or a sweep, scores of a search.

    One whose process is killed is called again, a few times, and the others go on.
    """

    @abstractmethod
    def opened(self, folder: Path, *, lasting: bool = False) -> AbstractContextManager[Workers]:
        """Workers, until it is left; an error inside ends what runs, which keeps its checkpoints.

        Args:
            folder: For what the executor itself writes; works see it as well.
            lasting: Whether a process may do several works one after the other, which saves its start.

        Raises:
            UnsupportedError: What it needs is not installed, or not there.
        """

    def preview(self, folder: Path, count: int) -> str:
        """What would be given to another program to run works, for a dry run; empty where nothing is.

        Args:
            folder: As for `opened`.
            count: How many works there are.

        Raises:
            UnsupportedError: What it needs is not installed.
        """
        return ""


executors: Registry[Executor] = Registry("executors", Executor)


def as_they_end(
    submit: Callable[[Work], "Future[Ended]"], works: Iterable[Work | None], jobs: int
) -> Iterator[Ended]:
    """What `Run` promises, for an executor that has futures.

    Args:
        submit: Starts a work.
        works: Asked for the next one when fewer than `jobs` run.
        jobs: How many run at a time.
    """
    running: set[Future[Ended]] = set()
    coming = iter(works)
    while True:
        while len(running) < jobs and (work := next(coming, None)) is not None:
            running.add(submit(work))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
