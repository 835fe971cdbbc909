"""Charts as plain data that a template draws as SVG."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final

from nasframe.pages.words import short

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 24
_MOST_POINTS: Final = 300  # of a line, about as many as the box has pixels

Item = TypeVar("Item")
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
    """Curves over epochs in a box of `WIDTH` x `HEIGHT` with ticks as (place, label).

    Attributes:
        title: Names what is shown.
        description: Says it in words.
        lines: The curves, the one that stands out last.
        x_ticks: Of the epochs.
        y_ticks: Of the values.
        last: The epoch at the right end.
    """

    title: str
    description: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    last: int
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
    last = max(2, *(len(values) for values in shown.values()))
    x_ticks = _epoch_ticks(last)

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = _LEFT + (epoch - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    lines = []
    for name, values in shown.items():
        known = list(_unbroken(values))
        known = [[point for part in known for point in part]] if joined else known
        parts = [[place(epoch, value) for epoch, value in thinned(part, _MOST_POINTS)] for part in known]
        lengths = [part if len(part) > 1 else 2 * part for part in parts]  # so that a value alone is a dot
        paths = tuple(" ".join(f"{x:g},{y:g}" for x, y in part) for part in lengths)
        lines.append(Line(name, colors[name], paths, parts[-1][-1], name == strong))
    return Chart(
        title,
        _describe(title, shown),
        tuple(sorted(lines, key=lambda line: line.strong)),
        tuple((place(tick, y_ticks[0])[0], f"{tick:g}") for tick in x_ticks),
        tuple((place(1, tick)[1], short(tick)) for tick in y_ticks),
        last,
    )


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of several items, evenly spread; the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


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


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from below `low` to above `high`."""
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    return [float(tick) for tick in MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


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


@final
@dataclass(frozen=True)
class Point:
    """An architecture, or a run, by two figures.

    Attributes:
        name: What it is.
        x: The figure that shall be small, such as a cost.
        y: The figure that shall be large.
        color: Counts the colors of the page.
        strong: Whether it stands out.
    """

    name: str
    x: float
    y: float
    color: int = 0
    strong: bool = False


@final
@dataclass(frozen=True)
class Dot:
    """A point at its place in the box."""

    name: str
    x: float
    y: float
    color: int
    strong: bool


@final
@dataclass(frozen=True)
class Scatter:
    """Points in a box of `WIDTH` x `HEIGHT`, with the front of those that no other one beats in both figures.

    Attributes:
        title: Names what is shown.
        description: Says it in words.
        x_name: Of the figure along the box.
        dots: The points, those that stand out last.
        front: A staircase.
        mark: Where a limit is along the box, and what it is called.
        x_ticks: Along the box.
        y_ticks: Up.
    """

    title: str
    description: str
    x_name: str
    dots: tuple[Dot, ...]
    front: str
    mark: tuple[float, str] | None
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def scatter(
    title: str,
    x_name: str,
    points: Sequence[Point],
    limit: tuple[float, str] | None = None,
    *,
    is_front_drawn: bool = True,
) -> Scatter | None:
    """Lay points out; None if there are none.

    Args:
        title: Names what is shown.
        x_name: Of the figure along the box.
        points: Of finite figures.
        limit: A value along the box that is drawn as a line, and its name.
        is_front_drawn: Whether a line joins the points that no other one beats in both figures.
    """
    if not points:
        return None
    across = [each.x for each in points] + ([limit[0]] if limit else [])
    x_ticks = _ticks(min(across), max(across), 4)
    y_ticks = _ticks(min(each.y for each in points), max(each.y for each in points))

    def x_of(value: float) -> float:
        share = (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    best = front_of(points) if is_front_drawn else []
    corners = [(x_of(each.x), y_of(each.y)) for each in best]
    steps = [corners[0]] if corners else []
    for x, y in corners[1:]:
        steps += [(x, steps[-1][1]), (x, y)]
    strong = [each for each in points if each.strong]
    named = "; ".join(f"{each.name}: {short(each.x)}, {each.y:.4g}" for each in [*strong, *best][:8])
    return Scatter(
        title,
        f"{title} over {x_name}: {len(points)} points. {named}",
        x_name,
        tuple(
            Dot(each.name, x_of(each.x), y_of(each.y), each.color, each.strong)
            for each in sorted(points, key=lambda each: each.strong)
        ),
        " ".join(f"{x:g},{y:g}" for x, y in steps),
        None if limit is None else (x_of(limit[0]), limit[1]),
        tuple((x_of(tick), short(tick)) for tick in x_ticks),
        tuple((y_of(tick), short(tick)) for tick in y_ticks),
    )


def front_of(points: Iterable[Point]) -> list[Point]:
    """Those that no other one beats: less of the one figure and as much of the other, or the reverse."""
    front: list[Point] = []
    for each in sorted(points, key=lambda each: (each.x, -each.y)):
        if not front or each.y > front[-1].y:
            front.append(each)
    return front
