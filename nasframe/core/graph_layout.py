"""Where the parts of a drawn graph stand: layered, after Sugiyama, Tagawa and Toda 1981.

Every edge is a chain of items, one in each column that it crosses: bends, and one label. Nodes,
labels and bends are then ordered and spaced alike, so that no edge runs through a node or a label,
and no two labels overlap.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_GAP_X, _GAP_Y = 0.45, 0.13
_SWEEPS = 12
_STRAIGHTNESS = 8

Edge = tuple[str, str, str]
_Neighbors = Mapping["Item", Sequence["Item"]]


@dataclass(frozen=True, eq=False)  # each is itself alone, which is quicker to look up
class Item:
    """A node, a label, or a bend (without a size) of an edge.

    Attributes:
        column: From left to right; a column has nodes, or labels, and bends of the edges that cross it.
        name: The node's name; empty for the items of an edge.
        edge: The index of the edge; -1 for a node.
        width: In inches.
        height: In inches.
    """

    column: int
    name: str
    edge: int
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """A laid-out graph; lengths are in inches, from the lower left.

    Attributes:
        width: Of the whole picture.
        height: Of the whole picture.
        centers: The center (x, y) of each node and label.
        chains: The items of each edge from source to target; exactly one has the label, if any.
        columns: Left and right border of each column.
    """

    width: float
    height: float
    centers: Mapping[Item, tuple[float, float]]
    chains: tuple[tuple[Item, ...], ...]
    columns: tuple[tuple[float, float], ...]

    def route(self, index: int) -> list[tuple[float, float]]:
        """An edge's path: where it starts, then three points of a cubic Bézier curve for each stretch.

        It is level where it crosses a column, and bends between columns only.
        """
        chain = self.chains[index]
        source, target = chain[0], chain[-1]
        x, y = self.centers[source]
        points = [(x + source.width / 2, y)]
        for item in chain[1:]:
            left, right = self.columns[item.column]
            y = self.centers[item][1]
            if item is target:
                left = self.centers[item][0] - item.width / 2
            points += _curve(points[-1], (left, y))
            if item is not target:
                points += _curve(points[-1], (right, y))
        return points


def _curve(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    middle = (start[0] + end[0]) / 2
    return [(middle, start[1]), (middle, end[1]), end]


def lay_out(
    nodes: Sequence[str],
    edges: Sequence[Edge],
    node_size: Callable[[str], tuple[float, float]],
    label_size: Callable[[str], tuple[float, float]],
) -> Layout:
    """Lay out a graph from left to right, each node as far left as its edges let it.

    Args:
        nodes: Names in a topological order.
        edges: (from, to, label) each; an empty label takes no room.
        node_size: Width and height of a node.
        label_size: Width and height of a label.
    """
    column_of = _columns(nodes, edges)
    items = {name: Item(column_of[name], name, -1, *node_size(name)) for name in nodes}
    chains = tuple(_chain(index, edge, items, label_size) for index, edge in enumerate(edges))
    columns: list[list[Item]] = [[] for _ in range(max(column_of.values(), default=-1) + 1)]
    for item in dict.fromkeys([*items.values(), *itertools.chain.from_iterable(chains)]):
        columns[item.column].append(item)
    before, after = _neighbors(chains)
    columns = _with_few_crossings(columns, before, after)
    heights = _heights(columns, before, after)
    borders = _borders(columns)
    height = max((y + item.height / 2 for item, y in heights.items()), default=0.0)
    centers = {item: (sum(borders[item.column]) / 2, height - y) for item, y in heights.items()}
    return Layout(borders[-1][1] if borders else 0.0, height, centers, chains, borders)


def _columns(nodes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The column of each node: one right of all its sources, two where labels stand in between."""
    depth = dict.fromkeys(nodes, 0)
    for name in nodes:
        depth[name] = max((depth[source] + 1 for source, target, _ in edges if target == name), default=0)
    labelled = {depth[target] for _, target, label in edges if label}
    return {name: own + sum(each <= own for each in labelled) for name, own in depth.items()}


def _chain(
    index: int, edge: Edge, items: Mapping[str, Item], label_size: Callable[[str], tuple[float, float]]
) -> tuple[Item, ...]:
    """An edge's items; its label stands right before its target, where a node's inputs are compared."""
    source, target = items[edge[0]], items[edge[1]]
    between = [Item(column, "", index, 0, 0) for column in range(source.column + 1, target.column)]
    if edge[2]:
        between[-1] = Item(target.column - 1, "", index, *label_size(edge[2]))
    return (source, *between, target)


def _neighbors(chains: Iterable[Sequence[Item]]) -> tuple[_Neighbors, _Neighbors]:
    before: dict[Item, list[Item]] = defaultdict(list)
    after: dict[Item, list[Item]] = defaultdict(list)
    for chain in chains:
        for left, right in itertools.pairwise(chain):
            before[right].append(left)
            after[left].append(right)
    return before, after


def _with_few_crossings(columns: list[list[Item]], before: _Neighbors, after: _Neighbors) -> list[list[Item]]:
    """The best order met while each column in turn is sorted by where its neighbors stand."""
    best, fewest = columns, _crossings(columns, after)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        place = {item: row for column in columns for row, item in enumerate(column)}
        sorted_columns = list(columns)
        for index in range(len(columns)) if forward else reversed(range(len(columns))):
            neighbors = before if forward else after
            means = {
                item: _mean([place[other] for other in neighbors.get(item, ())], place[item])
                for item in columns[index]
            }
            sorted_columns[index] = sorted(columns[index], key=means.__getitem__)
            place.update({item: row for row, item in enumerate(sorted_columns[index])})
        columns = sorted_columns
        crossings = _crossings(columns, after)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(columns: Sequence[Sequence[Item]], after: _Neighbors) -> int:
    place = {item: row for column in columns for row, item in enumerate(column)}
    total = 0
    for column in columns:
        ends = [sorted(place[other] for other in after.get(item, ())) for item in column]
        for upper, lower in itertools.combinations(ends, 2):
            total += sum(a > b for a in upper for b in lower)
    return total


def _heights(columns: Sequence[Sequence[Item]], before: _Neighbors, after: _Neighbors) -> dict[Item, float]:
    """A y for each item, downwards from 0: near the mean of its neighbors, in order, and apart."""
    y = {item: float(row - len(column) / 2) for column in columns for row, item in enumerate(column)}
    pulls = {item: _pulls(item, [*before.get(item, ()), *after.get(item, ())]) for item in y}
    for sweep in range(4 * _SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = [sum(weight * y[other] for other, weight in pulls[item]) for item in column]
            y.update(zip(column, _apart(column, wanted), strict=True))
    top = min((value - item.height / 2 for item, value in y.items()), default=0.0)
    return {item: value - top for item, value in y.items()}


def _pulls(item: Item, neighbors: Sequence[Item]) -> list[tuple[Item, float]]:
    """What an item is to be in the mean of: its neighbors, of which one on the same edge counts more.

    That edge shall be straight. An item without neighbors stays.
    """
    weights = [1 if item.name or other.name else _STRAIGHTNESS for other in neighbors]
    shares = [weight / sum(weights) for weight in weights]
    return list(zip(neighbors, shares, strict=True)) or [(item, 1.0)]


def _apart(column: Sequence[Item], wanted: Sequence[float]) -> list[float]:
    """The places nearest to those wanted (least squares) that keep the order and the distances.

    With the distances subtracted this is isotonic regression: neighbors in the wrong order are pooled.
    """
    offset, offsets = 0.0, [0.0]
    for upper, lower in itertools.pairwise(column):
        offset += (lower.height + upper.height) / 2 + _GAP_Y
        offsets.append(offset)
    pools: list[list[float]] = []
    for target, shift in zip(wanted, offsets, strict=False):
        pools.append([target - shift])
        while len(pools) > 1 and _mean(pools[-2], 0) > _mean(pools[-1], 0):
            last = pools.pop()
            pools[-1] += last
    flat = [_mean(pool, 0) for pool in pools for _ in pool]
    return [value + shift for value, shift in zip(flat, offsets, strict=False)]


def _borders(columns: Sequence[Sequence[Item]]) -> tuple[tuple[float, float], ...]:
    borders, left = [], 0.0
    for column in columns:
        right = left + max((item.width for item in column), default=0.0)
        borders.append((left, right))
        left = right + _GAP_X
    return tuple(borders)
