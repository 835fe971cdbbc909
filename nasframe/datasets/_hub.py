"""Files of data sets of the Hugging Face hub, each of which is what the hub says that it is."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nasframe.errors import DataError

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHA_256: Final = re.compile(r"[0-9a-f]{64}")


def check_commit(where: str, revision: str) -> None:
    """Refuse what may be something else tomorrow, such as a branch.

    Raises:
        DataError: `revision` is no commit.
    """
    if not _COMMIT.fullmatch(revision):
        raise DataError(
            f"{where}: data.revision must be a commit of the hub's repository (40 hexadecimal digits), got "
            f"{revision!r}; its page lists them under `Files`, `History`"
        )


def files_of(
    where: str, name: str, revision: str, patterns: Sequence[str], digests: Mapping[str, str]
) -> list[Path]:
    """Files of a data set at a commit, from the hub's cache on this machine or downloaded into it.

    Their content is compared with the SHA-256 that the hub declares of it, each time they are asked for. The
    hub's client keeps content by that name, so that this needs no network where the files are there.

    Args:
        where: What errors begin with.
        name: Of the data set on the hub.
        revision: The commit.
        patterns: Names of files, in any folder, with ``*``.
        digests: The SHA-256 of files that are known by their names, whatever the hub declares.

    Raises:
        DataError: They cannot be had, or are something else.
    """
    check_commit(where, revision)
    folder = _snapshot(where, name, revision, [each for p in patterns for each in (p, f"*/{p}")])
    files = sorted({file for pattern in patterns for file in folder.rglob(pattern)})
    if not files:
        raise DataError(
            f"{where}: `{name}` at {revision[:7]} must hold {' or '.join(patterns)}, but has none; "
            "choose another data set, or give data.path=FOLDER"
        )
    for file in files:
        _check(where, name, file, digests.get(file.name))
    return files


def _snapshot(where: str, name: str, revision: str, patterns: list[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DataError(
            f"{where}: reading `{name}` from the Hugging Face hub needs the package `huggingface_hub`: "
            "pip install nasframe[hub]; or give data.path=FOLDER with its Parquet files"
        ) from error
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except Exception as error:  # whatever the network, the hub or a cache can do
        raise DataError(
            f"{where}: `{name}` at {revision[:7]} is neither in the local cache nor can it be downloaded "
            f"({type(error).__name__}: {error}); go online once, or download its Parquet files "
            f"(https://huggingface.co/datasets/{name}) elsewhere and give data.path=FOLDER"
        ) from error


def _check(where: str, name: str, file: Path, known: str | None) -> None:
    content = file.resolve()  # the client's cache is links to content, by its checksum
    declared = known or content.name
    if not _SHA_256.fullmatch(declared):
        raise DataError(
            f"{where}: {file.name} of `{name}` must have a SHA-256 to be checked by, but the hub keeps it "
            "outside of Git LFS, or the cache has no symbolic links here; give data.path=FOLDER"
        )
    with content.open("rb") as opened:
        got = hashlib.file_digest(opened, "sha256").hexdigest()
    if got != declared:
        raise DataError(
            f"{where}: {file.name} of `{name}` must have the SHA-256 {declared}, got {got}: a broken "
            f"download, or not the data that was meant; remove {content} to get it anew"
        )
