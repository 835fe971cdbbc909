"""Which curves of a run belong into one chart, and which numbers into one table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from nasframe.pages.chart import Series, thinned
from nasframe.pages.words import spell

_SPLITS = ("train", "valid", "test")
_MOST_FRAMES = 100


def by_figure(curves: Mapping[str, Series]) -> dict[str, dict[str, Series]]:
    """Curves by chart, then by split or kind of cell: ``search/train_loss`` and ``search/valid_loss``."""
    groups: dict[str, dict[str, Series]] = {}
    for tag, values in curves.items():
        stage, _, figure = tag.rpartition("/")
        if stage.startswith("health/"):  # a figure of each kind of cell
            groups.setdefault(f"health: {spell(stage.partition('/')[2])}", {})[figure] = values
            continue
        split, _, rest = figure.partition("_")
        split, figure = (split, rest) if split in _SPLITS and rest else ("", figure)
        groups.setdefault(f"{stage}: {spell(figure)}", {})[split] = values
    return groups


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Each name with its number, in the order of their first coming."""
    return {name: index for index, name in enumerate(dict.fromkeys(names))}


def strongest(series: Mapping[str, Series]) -> str | None:
    """The name whose last value is the largest; None where there is none."""
    last = {name: values[-1] for name, values in series.items() if values and values[-1] is not None}
    return max(last, key=lambda name: last[name] or 0.0, default=None)


@final
@dataclass(frozen=True)
class Weight:
    """The weight of a candidate over the epochs that are shown.

    Attributes:
        frames: The weights, parted by spaces; ``-`` where it has none.
        last: The last one; empty where it has none.
        is_top: Whether no other candidate of the choice has a larger one.
        is_kept: Whether the architecture that was found keeps the candidate there.
    """

    frames: str
    last: str
    is_top: bool
    is_kept: bool = False


@final
@dataclass(frozen=True)
class HeatMap:
    """Choices with the same candidates.

    Attributes:
        candidates: Their names, one a column.
        rows: Name of each choice, and a weight for each candidate; None for one that it does not have.
        most: The largest weight of all epochs.
    """

    candidates: list[str]
    rows: list[tuple[str, list[Weight | None]]]
    most: float


def frames_of(alphas: Mapping[str, Mapping[str, Series]]) -> list[int]:
    """The epochs that are shown one after the other, from 1 on."""
    last = max((len(values) for series in alphas.values() for values in series.values()), default=0)
    return thinned(range(1, last + 1), _MOST_FRAMES)


def heat_maps(
    alphas: Mapping[str, Mapping[str, Series]],
    frames: Sequence[int],
    kept: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[HeatMap]:
    """The weights of the candidates; a table for each kind of cell, and for candidates of each sort.

    Args:
        alphas: The weights over the epochs, by choice and candidate.
        frames: The epochs that are shown, from 1 on.
        kept: What the architecture that was found keeps of each choice.
    """
    groups: list[tuple[list[str], list[str]]] = []
    for choice, series in alphas.items():
        alike = (each for each in groups if _stand_together(*each, choice, list(series)))
        columns, choices = next(alike, ([], []))
        if not choices:
            groups.append((columns, choices))
        columns.extend(name for name in series if name not in columns)
        choices.append(choice)
    return [
        HeatMap(
            columns,
            [(choice, _weights(alphas[choice], columns, frames, kept.get(choice, ()))) for choice in choices],
            _most(alphas[choice] for choice in choices) or 1.0,
        )
        for columns, choices in groups
    ]


def _most(all_series: Iterable[Mapping[str, Series]]) -> float:
    every = (value for series in all_series for values in series.values() for value in values)
    return max((value for value in every if value is not None), default=0.0)


def _weights(
    series: Mapping[str, Series], columns: Sequence[str], frames: Sequence[int], kept: Sequence[str]
) -> list[Weight | None]:
    top = strongest(series)
    return [
        _weight(series[name], frames, is_top=name == top, is_kept=name in kept) if name in series else None
        for name in columns
    ]


def _stand_together(
    columns: Sequence[str], choices: Sequence[str], choice: str, names: Sequence[str]
) -> bool:
    """Whether the name of a choice begins as those do, and one has all the candidates that the other has."""
    one_has_all = set(columns) <= set(names) or set(names) <= set(columns)
    return one_has_all and choices[0].partition("_")[0] == choice.partition("_")[0]


def _weight(values: Series, frames: Sequence[int], *, is_top: bool, is_kept: bool) -> Weight:
    shown = [values[epoch - 1] if epoch <= len(values) else None for epoch in frames]
    spelled = ["-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") for value in shown]
    last = shown[-1] if shown else None
    return Weight(" ".join(spelled), "" if last is None else f"{last:.2f}", is_top, is_kept)
