"""The inputs of each reader: one archive for each, so that thousands of them are not thousands of files."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "corpus"
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)


def inputs_of(name: str) -> dict[str, bytes]:
    """The inputs of a reader by name; those that fuzzing found are named by their digest."""
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as archive:
        return {each: archive.read(each) for each in archive.namelist()}


def keep(name: str, inputs: Mapping[str, bytes]) -> None:
    """Write the inputs of a reader; the same inputs give the same file."""
    with zipfile.ZipFile(FOLDER / f"{name}.zip", "w") as archive:
        for each in sorted(inputs):
            entry = zipfile.ZipInfo(each, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, inputs[each])
