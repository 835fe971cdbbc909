"""How well classes are told from each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class ClassFigures:
    """How well one class is told from the others.

    Attributes:
        name: Of the class.
        num_examples: That are of it.
        precision: Share of the examples taken for it that are of it; None where none is taken for it.
        recall: Share of its examples that are taken for it; None where there are none.
        f1: Harmonic mean of both, 2 TP / (2 TP + FP + FN); None where the class does not occur at all.
    """

    name: str
    num_examples: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_figures(names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[ClassFigures, ...]:
    """The figures of each class, in their order.

    Args:
        names: Of the classes.
        counts: Of the examples of each class, by what they were taken for.
    """
    figures = []
    for index, (name, row, column) in enumerate(zip(names, counts, zip(*counts, strict=True), strict=True)):
        right, of, taken = row[index], sum(row), sum(column)
        shares = _share(right, taken), _share(right, of), _share(2 * right, of + taken)
        figures.append(ClassFigures(str(name), of, *shares))
    return tuple(figures)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
