"""A table of one's own."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from nasframe.core import Dataset, Reader, TargetScale, Task, TensorSplit, datasets, readers
from nasframe.core.csv_text import is_number_or_empty, read_csv
from nasframe.datasets._rows import numbered, parted
from nasframe.errors import DataError
from nasframe.registry import Component
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
    columns, by_line = read_csv(path)
    rows = list(by_line.values())
    if target not in columns or len(columns) < 2:
        raise DataError(
            f"table: target must be a column of {path.name}, beside others, got `{target}`; "
            f"it has {', '.join(columns)}"
        )
    train, test = parted("table", len(rows), test_fraction)
    fields = {name: [row[index] for row in rows] for index, name in enumerate(columns)}
    wanted = fields.pop(target)
    reader = _reader_of(path, fields, train)
    inputs_ND = torch.stack([raw_D for _, raw_D in reader().inputs(path)])
    names: tuple[str, ...] = ()
    scale = TargetScale()
    if kind == "classes":
        targets, names = numbered(wanted)
    else:
        mean, deviation = _scale(f"{path.name}, column `{target}`", wanted, train)
        scale = TargetScale(names=(target,), means=(mean,), deviations=(deviation,))
        targets = ((_numbers(wanted) - mean) / deviation).nan_to_num(0.0).float()[:, None]
    return Dataset(
        TensorSplit(inputs_ND[train], targets[train]),
        TensorSplit(inputs_ND[test], targets[test]),
        Task((inputs_ND.shape[1],), len(names) or 1),
        class_names=names,
        reader=reader,
        target_scale=scale,
    )


def _reader_of(path: Path, fields: Mapping[str, Sequence[str]], train: torch.Tensor) -> Component[Reader]:
    """What reads rows as the training rows say."""
    values: list[tuple[str, ...]] = []
    scales: list[tuple[float, float]] = []
    for name, column in fields.items():
        if all(map(is_number_or_empty, column)) and any(column):
            values.append(())
            scales.append(_scale(f"{path.name}, column `{name}`", column, train))
        else:
            values.append(tuple(sorted({column[index] for index in train.tolist()})))
            scales.append((0.0, 1.0))
    means, deviations = zip(*scales, strict=True)
    return readers.component(
        "row", columns=tuple(fields), values=tuple(values), means=means, deviations=deviations
    )


def _numbers(column: Sequence[str]) -> torch.Tensor:
    return torch.tensor([math.nan if each == "" else float(each) for each in column], dtype=torch.float64)


def _scale(where: str, column: Sequence[str], train: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation over the training rows."""
    if wrong := [value for value in column if not is_number_or_empty(value)]:
        raise DataError(f"table: {where}: must be numbers, got `{wrong[0]}`")
    seen_M = _numbers(column)[train]
    seen_M = seen_M[seen_M.isfinite()]
    if not len(seen_M):
        raise DataError(f"table: {where}: must have a number in some training row, but has none")
    return seen_M.mean().item(), seen_M.std(correction=0).clamp(min=1e-12).item()
