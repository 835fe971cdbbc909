"""What a network takes the examples of each class for, as tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nasframe.core.class_figures import class_figures

CLASS_HEADER: Final = ("class", "examples", "precision", "recall", "F1", "most often taken for")
_MOST_IN_MATRIX: Final = 30  # classes


def class_rows(confusion: Mapping[str, Any]) -> list[list[str]]:
    """A row for each class as `CLASS_HEADER` names its cells, that of the lowest F1 first.

    Args:
        confusion: ``classes``, and the ``counts`` of each by what its examples were taken for; or empty.
    """
    names, counts = confusion.get("classes", []), confusion.get("counts", [])
    rows = []
    for index, (each, taken) in enumerate(zip(class_figures(names, counts), counts, strict=True)):
        wrong = [0 if other == index else count for other, count in enumerate(taken)]
        most = max(wrong)
        others = f"{names[wrong.index(most)]} ({most:,})" if most else ""
        shares = map(_share, (each.precision, each.recall, each.f1))
        # a class without examples is told last, whatever was taken for it
        worth = each.f1 if each.f1 is not None and each.num_examples else math.inf
        rows.append((worth, [each.name, f"{each.num_examples:,}", *shares, others]))
    return [told for _, told in sorted(rows, key=lambda row: row[0])]


def confusion_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the classes were taken for as `class_rows` and `matrix_of` take it.

    Args:
        evaluation: Its ``classes`` and the ``confusions`` of pairs of them, as plain data.
    """
    names = [each["name"] for each in evaluation["classes"]]
    number = {name: index for index, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    for each in evaluation["confusions"]:
        counts[number[each["of"]]][number[each["taken_for"]]] = each["num_examples"]
    for index, each in enumerate(evaluation["classes"]):
        counts[index][index] = each["num_examples"] - sum(counts[index])
    return {"classes": names, "counts": counts}


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


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
