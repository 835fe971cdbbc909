"""Tables in CSV files."""

import csv
import math
from pathlib import Path

from nasframe.errors import DataError


def read_csv(path: Path) -> tuple[list[str], dict[int, list[str]]]:
    """Names of the columns, and the fields of each row by the line of the file that it ends on.

    Empty lines are passed over.

    Raises:
        DataError: The file is no table in UTF-8 with a line of column names; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            (_, names), *found = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except OSError as error:
        raise DataError(f"table: {path} must be a file that can be read: {error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"table: {path} must be a CSV file in UTF-8, but: {error}; correct it") from error
    if len(set(names)) < len(names) or not names:
        raise DataError(f"table: {path.name}, line 1: column names must be given, each once, got {names}")
    rows = dict(found)
    for line, row in rows.items():
        if len(row) != len(names):
            raise DataError(
                f"table: {path.name}, line {line}: must have {len(names)} fields as line 1 has, "
                f"got {len(row)}"
            )
    return names, rows


def is_number_or_empty(text: str) -> bool:
    """Whether a field may stand in a column of numbers."""
    try:
        return text == "" or math.isfinite(float(text))
    except ValueError:
        return False
