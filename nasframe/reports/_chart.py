"""Line charts as plain data that a template draws as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 24

Series = Sequence[float | None]
"""One value an epoch; None where there is no finite number."""


@final
@dataclass(frozen=True)
class Line:
    """One curve; `color` counts the colors of the page, `paths` are its unbroken parts."""

    name: str
    color: int
    paths: tuple[str, ...]
    end: tuple[float, float]
    strong: bool


@final
@dataclass(frozen=True)
class Chart:
    """Curves over epochs in a box of `WIDTH` x `HEIGHT` with ticks as (place, label)."""

    title: str
    description: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def chart(
    title: str,
    series: Mapping[str, Series],
    colors: Mapping[str, int],
    strong: str | None = None,
    *,
    joined: bool = False,
) -> Chart | None:
    """Lay curves out; None if not one value is finite.

    Args:
        title: Names what is shown.
        series: Values by name, from the first epoch on.
        colors: The color of each name.
        strong: The name of a curve that stands out.
        joined: Whether curves go on over epochs without a value, because it is not measured in each.
    """
    shown = {name: values for name, values in series.items() if any(value is not None for value in values)}
    if not shown:
        return None
    finite = [value for values in shown.values() for value in values if value is not None]
    y_ticks = _ticks(min(finite), max(finite))
    x_ticks = _epoch_ticks(max(2, *(len(values) for values in shown.values())))

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = _LEFT + (epoch - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    lines = []
    for name, values in shown.items():
        known = list(_unbroken(values))
        known = [[point for part in known for point in part]] if joined else known
        parts = [[place(epoch, value) for epoch, value in part] for part in known]
        lengths = [part if len(part) > 1 else 2 * part for part in parts]  # so that a value alone is a dot
        paths = tuple(" ".join(f"{x:g},{y:g}" for x, y in part) for part in lengths)
        lines.append(Line(name, colors[name], paths, parts[-1][-1], name == strong))
    return Chart(
        title,
        _describe(title, shown),
        tuple(sorted(lines, key=lambda line: line.strong)),
        tuple((place(tick, y_ticks[0])[0], f"{tick:g}") for tick in x_ticks),
        tuple((place(1, tick)[1], f"{tick:.6g}") for tick in y_ticks),
    )


def _unbroken(values: Series) -> Iterator[list[tuple[int, float]]]:
    part: list[tuple[int, float]] = []
    for epoch, value in enumerate(values, 1):
        if value is not None:
            part.append((epoch, value))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`."""
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (-1.0, 1.0)
    return [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _epoch_ticks(last: int) -> list[float]:
    """Round epochs between the first and the last, both of which are shown."""
    from matplotlib.ticker import MaxNLocator

    between = MaxNLocator(5, integer=True).tick_values(1, last)
    room = (last - 1) / 12
    return [1.0, *(float(tick) for tick in between if 1 + room < tick < last - room), float(last)]


def _describe(title: str, series: Mapping[str, Series]) -> str:
    ends = []
    for name, values in series.items():
        finite = [value for value in values if value is not None]
        ends.append(f"{name} from {finite[0]:.3g} to {finite[-1]:.3g}")
    return f"{title} over the epochs: {', '.join(ends)}"
