"""What a network gets right and wrong, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

_MOST_CLASSES: Final = 30  # of a matrix that fits on a page
_MOST_CONFUSIONS: Final = 10


@final
@dataclass(frozen=True)
class ByClass:
    """Tables of the test's figures, as text.

    Attributes:
        header: Of `rows`.
        rows: The figures of each class.
        names: Of the classes, where the matrix is shown.
        matrix: Name of each class, and of its examples how many were taken for each class with their share;
            empty of so many classes that nobody would read it.
        pairs: The classes that are confused most often, where there is no matrix.
    """

    header: tuple[str, ...]
    rows: list[list[str]]
    names: list[str]
    matrix: list[tuple[str, list[tuple[int, float]]]]
    pairs: list[list[str]]


def shown_by_class(
    classes: Sequence[Mapping[str, Any]], confusions: Sequence[Mapping[str, Any]]
) -> ByClass | None:
    """Tables of what ``report.json`` says of the classes; None where there are none.

    Args:
        classes: ``name``, ``num_examples``, ``precision``, ``recall`` and ``f1`` of each.
        confusions: ``of``, ``taken_for`` and ``num_examples``, the most frequent first.
    """
    if not classes:
        return None
    rows = [[str(each["name"]), f"{each['num_examples']:,}", *map(share, _shares(each))] for each in classes]
    is_small = len(classes) <= _MOST_CLASSES
    most = () if is_small else confusions[:_MOST_CONFUSIONS]
    pairs = [[str(each["of"]), str(each["taken_for"]), f"{each['num_examples']:,}"] for each in most]
    names = [str(each["name"]) for each in classes] if is_small else []
    matrix = _matrix(classes, confusions) if is_small else []
    return ByClass(("class", "examples", "precision", "recall", "F1"), rows, names, matrix, pairs)


def share(value: float | None) -> str:
    """A precision, recall or F1; none where there is nothing to divide by."""
    return "none" if value is None else f"{value:.1%}"


def _shares(figures: Mapping[str, Any]) -> tuple[float | None, ...]:
    return figures["precision"], figures["recall"], figures["f1"]


def _matrix(
    classes: Sequence[Mapping[str, Any]], confusions: Sequence[Mapping[str, Any]]
) -> list[tuple[str, list[tuple[int, float]]]]:
    counts = {(each["of"], each["taken_for"]): each["num_examples"] for each in confusions}
    rows = []
    for each in classes:
        wrong = sum(count for (of, _), count in counts.items() if of == each["name"])
        right = each["num_examples"] - wrong
        row = [right if other is each else counts.get((each["name"], other["name"]), 0) for other in classes]
        rows.append((str(each["name"]), [(count, count / max(each["num_examples"], 1)) for count in row]))
    return rows
