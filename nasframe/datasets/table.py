"""A table of one's own."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from nasframe.core import Dataset, Task, TensorSplit, datasets
from nasframe.datasets._rows import numbered, parted
from nasframe.errors import DataError
from nasframe.types import ExistingFile, ProperFraction


@datasets.register("table")
def table(
    *,
    path: ExistingFile,
    target: str,
    kind: Literal["classes", "number"] = "classes",
    test_fraction: ProperFraction = 0.2,
) -> Dataset:
    """A CSV file in UTF-8 with a line of column names, one example a line.

    Columns of numbers get mean 0 and deviation 1, as measured on the training rows; in every other one
    each value that training rows have becomes an input that is 0 or 1. An empty field of a number counts as
    the mean. Which rows are for testing depends on their number and `test_fraction` alone.

    Args:
        path: The file.
        target: The column that is to be told from the others.
        kind: Whether the target is a class, or a number, which is then scaled likewise; for a number take
            the objective `mean_squared_error`.
        test_fraction: Share of the rows that are for testing.

    Raises:
        DataError: The file is no such table; the message names the line.
    """
    columns, rows = _read(path)
    if target not in columns or len(columns) < 2:
        raise DataError(
            f"table: target must be a column of {path.name}, beside others, got `{target}`; "
            f"it has {', '.join(columns)}"
        )
    train, test = parted("table", len(rows), test_fraction)
    inputs = [
        _encoded(f"{path.name}, column `{name}`", [row[index] for row in rows], train)
        for index, name in enumerate(columns)
        if name != target
    ]
    inputs_ND = torch.cat(inputs, dim=1)
    wanted = [row[columns.index(target)] for row in rows]
    names: tuple[str, ...] = ()
    if kind == "classes":
        targets, names = numbered(wanted)
    else:
        targets = _numbers(f"{path.name}, column `{target}`", wanted, train)
    return Dataset(
        TensorSplit(inputs_ND[train], targets[train]),
        TensorSplit(inputs_ND[test], targets[test]),
        Task((inputs_ND.shape[1],), len(names) or 1),
        class_names=names,
    )


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns, *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"table: {path} must be a CSV file in UTF-8, but: {error}; correct it") from error
    names = columns[1]
    if len(set(names)) < len(names) or not names:
        raise DataError(f"table: {path.name}, line 1: column names must be given, each once, got {names}")
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(
                f"table: {path.name}, line {line}: must have {len(names)} fields as line 1 has, "
                f"got {len(row)}"
            )
    return names, [row for _, row in rows]


def _encoded(where: str, values: Sequence[str], train: torch.Tensor) -> torch.Tensor:
    """A column as N D floats, D = 1 for numbers."""
    if all(map(_is_number_or_empty, values)) and any(values):
        return _numbers(where, values, train)
    known = sorted({values[index] for index in train.tolist()})
    return torch.tensor([[float(value == each) for each in known] for value in values])


def _is_number_or_empty(text: str) -> bool:
    try:
        return text == "" or math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(where: str, values: Sequence[str], train: torch.Tensor) -> torch.Tensor:
    """N 1 floats of mean 0 and deviation 1 over the training rows."""
    if wrong := [value for value in values if not _is_number_or_empty(value)]:
        raise DataError(f"table: {where}: must be numbers, got `{wrong[0]}`")
    column_N = torch.tensor(
        [math.nan if value == "" else float(value) for value in values], dtype=torch.float64
    )
    seen_M = column_N[train]
    seen_M = seen_M[seen_M.isfinite()]
    if not len(seen_M):
        raise DataError(f"table: {where}: must have a number in some training row, but has none")
    std = seen_M.std(correction=0).clamp(min=1e-12)
    return ((column_N - seen_M.mean()) / std).nan_to_num(0.0).float()[:, None]
