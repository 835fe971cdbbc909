"""Rows of a table."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, final

import torch

from nasframe.core import Reader, readers
from nasframe.core.csv_text import is_number_or_empty, read_csv
from nasframe.errors import DataError, UnsupportedError
from nasframe.types import PositiveFloat


@readers.register("row")
@final
class Row(Reader):
    """The rows of a CSV file in UTF-8 with a line of column names, each one input (float32, D).

    Columns are told by their names; others than those below are passed over. A number is what is left of it
    less the mean, over the deviation, and 0 where the field is empty. Of any other column each value is an
    input that is 1 where the field says so; a field that says something else makes all of them 0.

    Args:
        columns: Names of the columns, in the order of the inputs.
        values: The values of each column; none of a column of numbers.
        means: The mean of each column of numbers; of others it is passed over.
        deviations: The standard deviation, likewise.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def __init__(
        self,
        *,
        columns: tuple[str, ...],
        values: tuple[tuple[str, ...], ...],
        means: tuple[float, ...],
        deviations: tuple[PositiveFloat, ...],
    ) -> None:
        if not len(columns) == len(values) == len(means) == len(deviations):
            raise UnsupportedError(
                "reader `row`: values, means and deviations must be as many as columns, which are "
                f"{len(columns)}, got {len(values)}, {len(means)} and {len(deviations)}; give one for each"
            )
        self._columns = tuple(zip(columns, values, means, deviations, strict=True))

    def read(self, path: Path) -> torch.Tensor:
        found = [raw_D for _, raw_D in self.inputs(path)]
        if len(found) != 1:
            raise DataError(f"table: {path.name}: must have one row to be one input, got {len(found)}")
        return found[0]

    def inputs(self, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
        names, rows = read_csv(path)
        if absent := [name for name, *_ in self._columns if name not in names]:
            raise DataError(
                f"table: {path.name}, line 1: must have the columns of the training, but lacks "
                f"{', '.join(absent)}"
            )
        encoded = [
            _encoded(f"{path.name}, column `{name}`", column, values, mean, deviation)
            for name, values, mean, deviation in self._columns
            for column in [{line: row[names.index(name)] for line, row in rows.items()}]
        ]
        for index, line in enumerate(rows):
            yield f"line {line}", torch.cat([column_ND[index] for column_ND in encoded])


def _encoded(
    where: str, column: dict[int, str], values: tuple[str, ...], mean: float, deviation: float
) -> torch.Tensor:
    """A column as N D floats, D = 1 for numbers."""
    if values:
        return torch.tensor([[float(field == each) for each in values] for field in column.values()])
    for line, field in column.items():
        if not is_number_or_empty(field):
            raise DataError(f"table: {where}, line {line}: must be a number, got `{field:.80}`")
    numbers_N = torch.tensor(
        [math.nan if field == "" else float(field) for field in column.values()], dtype=torch.float64
    )
    return ((numbers_N - mean) / deviation).nan_to_num(0.0).float()[:, None]
