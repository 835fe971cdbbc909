"""Tables of accuracies in JSON, and where an architecture stands in them."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from nasframe.core import Standing
from nasframe.core.json_text import read_json_file
from nasframe.errors import DataError, FormatError


@final
@dataclass(frozen=True)
class Published:
    """What is known of a table before it is read.

    Attributes:
        name: What its authors call it.
        keys: All of its keys.
        source: Where to get it, as advice.
        max_bytes: The most that its file may have.
    """

    name: str
    keys: Collection[str]
    source: str
    max_bytes: int

    def read(self, path: Path, percent: Callable[[Any], tuple[str, Any]]) -> "Table":
        """Read the whole table.

        Args:
            path: A JSON file: an object with an entry for each key.
            percent: The name and the value of an entry's accuracy in percent, of any entry.

        Raises:
            DataError: There is no such file.
            FormatError: It is not the whole table.
        """
        if not path.is_file():
            raise DataError(f"{path}: must be the table of {self.name}, but is no file; {self.source}")
        table, keys = read_json_file(path, self.source, self.max_bytes), set(self.keys)
        if not isinstance(table, dict) or table.keys() != keys:
            is_object = isinstance(table, dict)
            found = f"{len(keys & table.keys())} of them" if is_object else type(table).__name__
            raise FormatError(
                f"{path}: must be an object with exactly the {len(keys):,} keys of {self.name}, got {found}; "
                f"{self.source}"
            )
        return Table({key: self._accuracy(f"{path}: {key}", *percent(entry)) for key, entry in table.items()})

    def _accuracy(self, where: str, what: str, percent: Any) -> float:
        if not isinstance(percent, (int, float)) or isinstance(percent, bool) or not 0 <= percent <= 100:
            raise FormatError(
                f"{where}: {what} must be a number from 0 to 100, got {percent!r:.80}; {self.source}"
            )
        return percent / 100


@final
class Table:
    """The accuracy of each architecture of a space.

    Args:
        accuracies: By key, 0 to 1.
    """

    def __init__(self, accuracies: Mapping[str, float]) -> None:
        self._accuracies, self._ascending = accuracies, sorted(accuracies.values())

    def standing(self, key: str) -> Standing:
        """Look a key of the table up."""
        accuracy, count = self._accuracies[key], len(self._ascending)
        return Standing(accuracy, 1 + count - bisect_right(self._ascending, accuracy), count)
