"""What a network takes the examples of each class for, as tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

_MOST_IN_MATRIX: Final = 30  # classes


def class_rows(confusion: Mapping[str, Any]) -> list[list[str]]:
    """A row for each class, the worst first: its examples, accuracy, and what it is most taken for.

    Args:
        confusion: ``classes``, and the ``counts`` of each by what its examples were taken for; or empty.
    """
    rows = []
    for index, (name, counts) in enumerate(
        zip(confusion.get("classes", []), confusion.get("counts", []), strict=True)
    ):
        count, right = sum(counts), counts[index]
        wrong = [0 if other == index else each for other, each in enumerate(counts)]
        most = max(wrong)
        others = f"{confusion['classes'][wrong.index(most)]} ({most:,})" if most else ""
        told = [str(name), f"{count:,}", f"{right / count:.1%}" if count else "", others]
        rows.append((right / count if count else math.inf, told))
    return [told for _, told in sorted(rows, key=lambda row: row[0])]


def matrix_of(confusion: Mapping[str, Any]) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    """Each class with its counts, and their shares of it; empty where nobody could read so many.

    Args:
        confusion: See `class_rows`.
    """
    if len(confusion.get("classes", [])) > _MOST_IN_MATRIX:
        return []
    return [
        (str(name), [(f"{each:,}", f"{each / max(sum(counts), 1):.3f}") for each in counts])
        for name, counts in zip(confusion.get("classes", []), confusion.get("counts", []), strict=True)
    ]
