"""Figures as lines of JSON."""

import json
import math
from pathlib import Path
from typing import final

from nasframe.core import Record, Tracker, trackers
from nasframe.core.json_text import read_json
from nasframe.errors import FormatError


@trackers.register("jsonl")
@final
class Jsonl(Tracker):
    """Writes the scalars of each record as one line of ``metrics.jsonl``.

    A line is ``{"step": 3, "search/train_loss": 0.71, …}``. JSON has no number that is not finite:
    such a one is ``null``.

    Raises:
        FormatError: The file that is there is not what this tracker writes.
    """

    def __init__(self, directory: Path, start: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        if path.exists():
            _drop_from(path, start)
        self._file = path.open("a", encoding="utf-8")

    def log(self, record: Record) -> None:
        scalars = {tag: _finite(float(value)) for tag, value in record.scalars.items()}
        line = json.dumps({"step": record.step, **scalars}, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _drop_from(path: Path, start: int) -> None:
    """Keep the lines of the steps before `start`; what follows the last line break was torn off."""
    *lines, _ = path.read_bytes().split(b"\n")
    kept = [line for number, line in enumerate(lines, 1) if _step(line, f"{path}:{number}") < start]
    partial = path.with_suffix(".partial")
    partial.write_bytes(b"".join(line + b"\n" for line in kept))
    partial.replace(path)


def _step(line: bytes, where: str) -> int:
    record = read_json(line, where)
    step = record.get("step") if isinstance(record, dict) else None
    if not isinstance(step, int):
        raise FormatError(f"{where}: must be an object with a whole number `step`, got {line!r:.80}")
    return step
