"""A run of a study or a sweep: begun once, gone on with wherever it stopped, and by one process alone."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from nasframe.core import Progress
from nasframe.core.json_text import read_json_file
from nasframe.errors import FormatError, StorageError
from nasframe.recipe import Recipe, Run, dump_recipe, load_recipe, open_run, resume, run

_BEGUN: Final = ("recipe.yaml", "environment.json", "status.json", "lock")
_SECONDS_TO_END: Final = 120.0


def finish(recipe: Recipe, folder: Path, progress: Progress | None = None) -> Run:
    """The run of a folder: as it is when done, gone on with when begun, else started."""
    if not (folder / "status.json").exists():
        for name in _BEGUN:  # of a start that was cut off before anything was done
            for path in folder.glob(f"{name}*"):
                path.unlink()
        return run(recipe, folder, progress)
    done = read_json_file(folder / "status.json").get("ended") == "done"
    return open_run(folder) if done else resume(folder, progress, outside=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Inside, no other process does the run of a folder.

    One of an executor that was lost may still be ending with its checkpoint; it is waited for.

    Raises:
        StorageError: The folder above is not here, or another process goes on.
    """
    if not folder.parent.is_dir():
        raise StorageError(
            f"{folder.parent}: must be seen by all machines that runs are sent to, but is not on this one; "
            "choose an --out that is"
        )
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=_SECONDS_TO_END)
    try:
        lock.acquire()
    except Timeout:
        raise StorageError(
            f"{folder}: must be worked on by one process alone, but another one has not ended in "
            f"{_SECONDS_TO_END:.0f} s; wait for it, or end it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def digest(recipe: Recipe) -> str:
    """What tells recipes apart, wherever the file of a known architecture lies."""
    return hashlib.sha256(dump_recipe(replace(recipe, genotype=None)).encode()).hexdigest()[:16]


def check_begun(recipe: Recipe, folder: Path, what: str) -> None:
    """Refuse to go on with a run of another recipe.

    Args:
        recipe: What would be run.
        folder: Its run directory, which may be there or not.
        what: It is of: a study or a sweep.

    Raises:
        FormatError: The run was begun with another one.
    """
    begun = folder / "recipe.yaml"
    if not begun.exists():
        return
    if digest(load_recipe(begun, check=False, outside=True)) != digest(recipe):
        raise FormatError(
            f"{folder}: must be a run of what the {what} says, but was begun with another recipe; "
            "choose another --out, or remove this folder"
        )
