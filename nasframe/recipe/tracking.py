"""A tracker that may fail to write: the run goes on without it, and it is made again."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import final

from nasframe.core import Conclusion, Record, Tracker
from nasframe.core.storage import reason_of
from nasframe.errors import FaultWarning, StorageError
from nasframe.registry import Component


@final
class Tracking:
    """Hands records to a tracker; those that it cannot write are told by a `FaultWarning`.

    Args:
        component: Makes the tracker.
        folder: What it writes below.
        start: The first step that is still to come.
    """

    def __init__(self, component: Component[Tracker], folder: Path, start: int) -> None:
        self._component, self._folder = component, folder
        self._tracker: Tracker | None = None
        self._missing: list[int] = []
        self._next = start
        self._open(start)

    def log(self, record: Record) -> None:
        """Write a record, by a new tracker if the one before fails."""
        if not (self._logged(record) or self._logged(record)):
            self._missing.append(record.step)
        self._next = record.step + 1

    def conclude(self, conclusion: Conclusion) -> None:
        """Write what the run came to, as the step after the last record."""
        if self._tracker is None:
            self._open(self._next)
        self._written(lambda tracker: tracker.conclude(conclusion))

    def _logged(self, record: Record) -> bool:
        if self._tracker is None:
            self._open(record.step)
        return self._written(lambda tracker: tracker.log(record))

    def _written(self, write: Callable[[Tracker], None]) -> bool:
        if self._tracker is None:
            return False
        try:
            write(self._tracker)
        except (OSError, StorageError) as error:
            self._fail(error)
            return False
        return True

    def close(self) -> None:
        """Finish writing, and say which records are missing."""
        if self._tracker is not None:
            try:
                self._tracker.close()
            except (OSError, StorageError) as error:
                self._fail(error)
        if self._missing:
            steps = ", ".join(map(str, self._missing))
            _tell(f"{self._folder}: tracker {self._component.name} has no records of epochs {steps}")

    def _open(self, start: int) -> None:
        try:
            self._tracker = self._component(self._folder, start)
        except (OSError, StorageError) as error:
            self._fail(error)

    def _fail(self, error: OSError | StorageError) -> None:
        broken, self._tracker = self._tracker, None
        reason = reason_of(error) if isinstance(error, OSError) else error
        _tell(
            f"{self._folder}: tracker {self._component.name} must be able to write, but {reason}; "
            "it is made again when there is something to write"
        )
        if broken is not None:
            with suppress(OSError, StorageError):
                broken.close()


def _tell(message: str) -> None:
    warnings.warn(message, FaultWarning, stacklevel=3)
