"""Checkpoints: the state of a stage, whole or not at all."""

import os
from pathlib import Path
from typing import Any, final

import torch

from nasframe.core.packing import pack, unpack
from nasframe.core.tensor_file import load_checkpoint
from nasframe.errors import FormatError

_VERSION = 3  # 2 had tensors that were not packed


@final
class Checkpoints:
    """The newest checkpoints of a stage in a folder, named by step.

    Args:
        folder: Made when the first one is written.
        keep: How many to keep.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder, self._keep = folder, keep

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a state (tensors and plain data) after `step`; a kill in between leaves the old ones."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / "partial"
        with partial.open("wb") as file:
            torch.save({"version": _VERSION, "step": step, "state": pack(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._folder / f"step-{step:09d}.pt")
        for path in self._paths()[: -self._keep]:
            path.unlink()

    def latest(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint that can be read; None if there is none at all.

        Raises:
            FormatError: There are checkpoints, but none of them can be read.
        """
        failures = []
        for path in reversed(self._paths()):
            try:
                content = load_checkpoint(path)
                if content["version"] not in (2, _VERSION):
                    raise FormatError(f"version must be {_VERSION}, got {content['version']}")
                state: dict[str, Any] = content["state"]
                return state if content["version"] == 2 else unpack(state)
            except Exception as error:
                failures.append(f"{path}: {error}")
        if failures:
            raise FormatError("no checkpoint can be read: " + "; ".join(failures))
        return None
