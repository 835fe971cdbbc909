"""Figures as lines of JSON."""

import json
import math
import warnings
from pathlib import Path
from typing import final

from nasframe.core import Record, Tracker, trackers
from nasframe.core.json_text import read_json
from nasframe.core.storage import append_whole, reason_of, write_whole
from nasframe.errors import FaultWarning, FormatError, StorageError


@trackers.register("jsonl")
@final
class Jsonl(Tracker):
    """Writes the scalars of each record as one line of ``metrics.jsonl``.

    A line is ``{"step": 3, "search/train_loss": 0.71, …}``. JSON has no number that is not finite:
    such a one is ``null``. Lines that cannot be written are told by a `FaultWarning`, and written with
    those of a later record when there is room again.

    Raises:
        FormatError: The file that is there is not what this tracker writes.
    """

    def __init__(self, directory: Path, start: int) -> None:
        self._path = directory / "metrics.jsonl"
        self._waiting = ""
        try:
            kept = _lines_before(self._path, start) if self._path.exists() else ""
            write_whole(self._path, kept)
        except StorageError as error:
            warnings.warn(f"{error}; lines wait until it is", FaultWarning, stacklevel=2)

    def log(self, record: Record) -> None:
        scalars = {tag: _finite(float(value)) for tag, value in record.scalars.items()}
        self._waiting += json.dumps({"step": record.step, **scalars}, allow_nan=False) + "\n"
        try:
            self._write()
        except OSError as error:
            message = f"{self._path}: must be writable, but {reason_of(error)}; lines wait until it is"
            warnings.warn(message, FaultWarning, stacklevel=2)

    def close(self) -> None:
        if self._waiting:
            lines = self._waiting.count("\n")
            warnings.warn(f"{self._path}: {lines} lines could not be written", FaultWarning, stacklevel=2)

    def _write(self) -> None:
        """Append what waits, all or nothing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        append_whole(self._path, self._waiting.encode())
        self._waiting = ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _lines_before(path: Path, start: int) -> str:
    """The lines of the steps before `start`; what follows the last line break was torn off."""
    *lines, _ = path.read_bytes().split(b"\n")
    kept = [line for number, line in enumerate(lines, 1) if _step(line, f"{path}:{number}") < start]
    return "".join(f"{line.decode()}\n" for line in kept)


def _step(line: bytes, where: str) -> int:
    record = read_json(line, where)
    step = record.get("step") if isinstance(record, dict) else None
    if not isinstance(step, int):
        raise FormatError(f"{where}: must be an object with a whole number `step`, got {line!r:.80}")
    return step
