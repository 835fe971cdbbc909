"""The folder of a study or a sweep: one process works on it, and results are added a line at a time."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from nasframe.core.json_text import read_json, read_json_file
from nasframe.core.storage import append_whole, reason_of, write_whole
from nasframe.errors import FormatError, StorageError

Row = dict[str, Any]
"""What is kept of a trial, as plain data."""


@final
class Folder:
    """The files of one study or sweep (their names are public: docs/studies.md, docs/many_runs.md).

    Args:
        root: Made if it is not there.
        what: ``study`` or ``sweep``; the folder has ``<what>.yaml``.
        rows: Name of the file with a line for each result.

    Raises:
        FormatError: It holds something else.
    """

    def __init__(self, root: Path, what: str = "study", rows: str = "trials.jsonl") -> None:
        self.root, self._what = root.absolute(), what
        self.log = self.root / rows
        names = {path.name for path in root.iterdir()} if root.is_dir() else set()
        if (root.exists() and not root.is_dir()) or (names - {"lock"} and f"{what}.yaml" not in names):
            raise FormatError(
                f"{root}: must be a new or empty folder, or that of a {what}, but holds something else; "
                "choose another --out"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{root}: must be a folder that can be made, but {reason_of(error)}"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, no other process runs trials here.

        Raises:
            StorageError: Another process does.
        """
        lock = FileLock(self.root / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StorageError(
                f"{self.root}: must be worked on by one process alone, but another one runs its trials; "
                "wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Where each line stands, and what it says; a torn one is dropped."""
        content = self.log.read_bytes() if self.log.exists() else b""
        *lines, torn = content.split(b"\n")
        if torn:
            write_whole(self.log, "".join(f"{line.decode()}\n" for line in lines))
        for number, line in enumerate(lines, 1):
            where = f"{self.log}:{number}"
            yield where, read_json(line, where)

    def append(self, row: Row) -> None:
        """Write a row, all or nothing.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            append_whole(self.log, (json.dumps(row) + "\n").encode())
        except OSError as error:
            raise StorageError(f"{self.log}: must be writable, but {reason_of(error)}") from error

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Plain data that is made once and then stays as it is."""
        path = self.root / name
        if not path.exists():
            write_whole(path, json.dumps(make(), indent=1) + "\n")
        return read_json_file(path)


def check_same(where: str, row: Row, recipe: str, what: str, name: str) -> None:
    """Refuse a result of another recipe.

    Args:
        where: It stands.
        row: The result.
        recipe: The digest of the recipe that would be run now.
        what: ``study`` or ``sweep``.
        name: What was run.

    Raises:
        FormatError: It is of another one.
    """
    if row["recipe"] != recipe:
        raise FormatError(
            f"{where}: must be of what the {what} says, but {name} was run with another recipe, or by a "
            "nasframe with other defaults; choose another --out, or go back to those"
        )
