"""Storage: files that are there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from nasframe.errors import StorageError

_ROOM: Final = 65536


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is named `path` when all of it is on the disk.

    Whatever ends the process before leaves what had this name; an error removes what was written.

    Raises:
        StorageError: It cannot be written; says why.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise StorageError(f"{path}: must be writable, but {reason_of(error)}") from error
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text to a file, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    with written_whole(path) as file:
        file.write(text.encode())


def check_room(folder: Path) -> None:
    """Make a folder, and see that something can be written there.

    Raises:
        OSError: It cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_ROOM))
        file.flush()


def reason_of(error: OSError) -> str:
    """What the system says, without the name of the file."""
    return error.strerror or str(error)


def _sync_folder(folder: Path) -> None:
    """Make the name last too, on systems where a folder can be opened."""
    with suppress(PermissionError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def append_whole(path: Path, data: bytes) -> None:
    """Append to a file, all or nothing, and wait until it is on the disk.

    Raises:
        OSError: The file is as it was.
    """
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise
        os.fsync(file.fileno())
