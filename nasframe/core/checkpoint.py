"""Checkpoints: the state of a stage, whole or not at all."""

import hashlib
import json
import math
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, final

import torch

from nasframe.core.json_text import read_json_file
from nasframe.core.memory import is_out_of_memory
from nasframe.core.packing import pack, unpack
from nasframe.core.ranks import is_first, shared
from nasframe.core.storage import write_whole, written_whole
from nasframe.core.tensor_file import load_checkpoint
from nasframe.errors import FaultWarning, FormatError, StorageError

_VERSION: Final = 3  # 2 had tensors that were not packed
_MANIFEST_VERSION: Final = 1


@final
class Checkpoints:
    """The newest checkpoints of a stage in a folder, named by step, and the best one.

    ``manifest.json`` lists them, the newest last, with their checksums. A file that it doesn't list was never
    finished. One that is written again for the same step has another name, which ends in ``b``. Of several
    ranks the first writes and reads, and sends the others what it read.

    Args:
        folder: Made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(
        self, step: int, state: dict[str, Any], *, keep: int = 2, valid_loss: float | None = None
    ) -> bool:
        """Write a state (tensors and plain data) after `step`; a kill in between leaves the old ones.

        What cannot be written is told by a `FaultWarning`, and the old ones stay.

        Args:
            step: Steps so far.
            state: Saved as it is.
            keep: How many of the newest are kept, besides the one of the lowest `valid_loss`.
            valid_loss: That of this state, where it was measured.

        Returns:
            Whether it was written.
        """
        if not is_first():
            return True
        listed = self._listed() or {}
        plain, again = f"step-{step:09d}.pt", f"step-{step:09d}b.pt"
        name = again if plain in listed else plain  # a file that is listed is never written over
        if valid_loss is None:  # what was measured of this step before is true of it still
            valid_loss = listed.get(plain, listed.get(again, {})).get("valid_loss")
        try:
            with written_whole(self._folder / name) as file:
                _write(file, {"version": _VERSION, "step": step, "state": pack(state)})
            listed = {other: entry for other, entry in listed.items() if other not in (plain, again)}
            listed[name] = _entry(self._folder / name, valid_loss)
            kept = {name: listed[name] for name in _kept(listed, keep)}
            manifest = {"version": _MANIFEST_VERSION, "checkpoints": kept}
            write_whole(self._manifest, json.dumps(manifest, indent=2) + "\n")
            for path in self._folder.glob("step-*.pt"):
                if path.name not in kept:
                    path.unlink(missing_ok=True)
        except (OSError, StorageError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            reason = str(error) or "there is not enough memory"
            _tell(f"{reason}; the checkpoint of step {step} is not there, the run goes on")
            return False
        return True

    def latest(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint that is whole; None if there is none at all.

        One that is missing or damaged is told by a `FaultWarning`.

        Raises:
            FormatError: There are checkpoints, but none of them can be read.
        """
        return shared(self._latest)

    def _latest(self) -> dict[str, Any] | None:
        listed = self._listed()
        found = sorted(path.name for path in self._folder.glob("step-*.pt"))
        failures = []
        for name in reversed(found if listed is None else list(listed)):
            path = self._folder / name
            try:
                if listed is not None:
                    _check_entry(path, listed[name])
                content = load_checkpoint(path)
                if content["version"] not in (2, _VERSION):
                    raise FormatError(f"version must be {_VERSION}, got {content['version']}")
                state: dict[str, Any] = content["state"]
                if content["version"] != 2:
                    state = unpack(state)
            except Exception as error:
                failures.append(f"{path}: {error}")
                continue
            for failure in failures:
                _tell(f"{failure}; going on from the checkpoint before it, of step {content['step']}")
            return state
        if failures:
            raise FormatError("no checkpoint can be read: " + "; ".join(failures))
        return None

    def best(self) -> dict[str, Any] | None:
        """The state of the lowest `valid_loss`, the newer of two equal ones; None where none was measured.

        Raises:
            FormatError: It is damaged.
        """
        return shared(self._best)

    def _best(self) -> dict[str, Any] | None:
        listed = self._listed() or {}
        if (name := _best(listed)) is None:
            return None
        path = self._folder / name
        try:
            _check_entry(path, listed[name])
            return unpack(load_checkpoint(path)["state"])
        except Exception as error:
            raise FormatError(
                f"{path}: must be the checkpoint of the lowest validation loss, but {error}; begin a new run"
            ) from error

    def delete(self) -> None:
        """Remove them all and their folder.

        The manifest goes first: what an end in between leaves is whole, and misses nothing.
        """
        with suppress(OSError):
            self._manifest.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _manifest(self) -> Path:
        return self._folder / "manifest.json"

    def _listed(self) -> dict[str, dict[str, Any]] | None:
        """What the manifest says of each file; None where there is no manifest that can be read."""
        if not self._manifest.exists():
            return None
        try:
            content = read_json_file(self._manifest)
            if content["version"] != _MANIFEST_VERSION:
                raise ValueError(f"version must be {_MANIFEST_VERSION}, got {content['version']}")
            return {str(name): dict(entry) for name, entry in content["checkpoints"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, FormatError) as error:
            _tell(f"{self._manifest}: cannot be read: {error}; checkpoints are read without their checksums")
            return None


def _write(file: BinaryIO, content: dict[str, Any]) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:  # what PyTorch makes of an error of the file
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _entry(path: Path, valid_loss: float | None) -> dict[str, Any]:
    measured = valid_loss if valid_loss is not None and math.isfinite(valid_loss) else None
    return {"bytes": path.stat().st_size, "sha256": _digest(path), "valid_loss": measured}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kept(listed: dict[str, dict[str, Any]], keep: int) -> list[str]:
    """The names of the newest and of the one of the lowest validation loss, the newer of two equal ones."""
    names = list(listed)
    newest, best = names[-keep:], _best(listed)
    return [name for name in names if name in newest or name == best]


def _best(listed: dict[str, dict[str, Any]]) -> str | None:
    losses = {name: loss for name in listed if (loss := listed[name].get("valid_loss")) is not None}
    return min(reversed(losses), key=losses.__getitem__, default=None)


def _check_entry(path: Path, entry: dict[str, Any]) -> None:
    if not path.exists():
        raise FormatError("must be there, as the manifest lists it, but is missing")
    if (size := path.stat().st_size) != entry.get("bytes"):
        raise FormatError(f"must have {entry.get('bytes')} bytes, got {size}")
    if _digest(path) != entry.get("sha256"):
        raise FormatError("damaged: its checksum is not that of the manifest")


def _tell(message: str) -> None:
    warnings.warn(message, FaultWarning, stacklevel=3)
