"""Graphs as plain data that a template draws as SVG, in the colors of the page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

from nasframe.core.graph import Graph
from nasframe.core.graph_layout import Item, Layout, lay_out

_SCALE: Final = 96  # px an inch
_MARGIN: Final = 8
_NODE_WIDTH, _LABEL_WIDTH = 9.0, 7.3  # px of a letter, at the largest
_MOST_DRAWN, _LONGEST_DRAWN = 600, 200  # nodes and edges of a graph; characters of a name


@final
@dataclass(frozen=True)
class Box:
    """A node, or the label of an edge; lengths in px from the upper left.

    Attributes:
        x: Of its center.
        y: Of its center.
        width: Of it.
        height: Of it.
        text: What it says.
        index: What is set below the line behind it.
        color: Counts the colors of the page; None for a node.
    """

    x: float
    y: float
    width: float
    height: float
    text: str
    index: str = ""
    color: int | None = None


@final
@dataclass(frozen=True)
class Drawing:
    """A graph, drawn; without edges and nodes where it is too large for anyone to read.

    Attributes:
        title: What it shows.
        description: All of it in words.
        width: In px.
        height: In px.
        edges: (path, points of the arrowhead, color) each; no color where nothing is written.
        boxes: Nodes and labels.
    """

    title: str
    description: str
    width: float = 0
    height: float = 0
    edges: tuple[tuple[str, str, int | None], ...] = ()
    boxes: tuple[Box, ...] = ()


def drawn(graph: Graph, colors: Mapping[str, int]) -> Drawing:
    """Lay a graph out from left to right.

    Args:
        graph: What to draw.
        colors: The color of each label; others take further ones.
    """
    parts = (part for edge in graph.edges for part in edge)
    longest = max(map(len, (graph.title, *graph.nodes, *parts)))
    count = len(graph.nodes) + len(graph.edges)
    if count > _MOST_DRAWN or longest > _LONGEST_DRAWN:
        size = f"{len(graph.nodes)} nodes and {len(graph.edges)} edges"
        return Drawing(graph.title, f"{graph.title:.{_LONGEST_DRAWN}}: {size}, too large to be drawn")
    labels = dict.fromkeys(label for _, _, label in graph.edges if label)
    known = {**{label: len(colors) + index for index, label in enumerate(labels)}, **colors}
    layout = lay_out(graph.nodes, graph.edges, _node_size, _label_size)
    edges, boxes = [], []
    for index, (_, _, label) in enumerate(graph.edges):
        color = known[label] if label else None
        edges.append((*_edge(layout, index), color))
        labels_of = (each for each in layout.chains[index] if label and not each.name and each.width)
        boxes += [_box(layout, item, label, "", color) for item in labels_of]
    boxes += [_box(layout, item, *_split(item.name)) for item in layout.centers if item.name]
    words = "; ".join(f"{start} to {end}: {label}" for start, end, label in graph.edges if label)
    return Drawing(
        graph.title,
        f"{graph.title}. {words}",
        round(layout.width * _SCALE + 2 * _MARGIN),
        round(layout.height * _SCALE + 2 * _MARGIN),
        tuple(edges),
        tuple(boxes),
    )


def _node_size(name: str) -> tuple[float, float]:
    letters = len("".join(_split(name)))
    return max(0.42, (_NODE_WIDTH * letters + 18) / _SCALE), 0.36


def _label_size(label: str) -> tuple[float, float]:
    return (_LABEL_WIDTH * len(label) + 16) / _SCALE, 0.24


def _split(name: str) -> tuple[str, str]:
    """A name and its index: ``c_{k}`` is c and k; empty where it has none."""
    parts = re.fullmatch(r"([^{}]+)_\{([^{}]+)\}", name)
    return (parts[1], parts[2].replace("-", "\N{MINUS SIGN}")) if parts else (name, "")


def _place(layout: Layout, x: float, y: float) -> tuple[float, float]:
    return round(x * _SCALE + _MARGIN, 1), round((layout.height - y) * _SCALE + _MARGIN, 1)


def _edge(layout: Layout, index: int) -> tuple[str, str]:
    """Its path and its arrowhead; it ends level, so that the head points to the right."""
    points = [_place(layout, x, y) for x, y in layout.route(index)]
    tip, last = points[-1], (points[-1][0] - 6, points[-1][1])
    (first, *curves) = [f"{x:g} {y:g}" for x, y in [*points[:-1], last]]
    path = f"M{first} " + " ".join(
        "C" + " ".join(curves[start : start + 3]) for start in range(0, len(curves), 3)
    )
    head = [(tip[0] - 8, tip[1] - 4), tip, (tip[0] - 8, tip[1] + 4)]
    return path, " ".join(f"{x:g},{y:g}" for x, y in head)


def _box(layout: Layout, item: Item, text: str, index: str, color: int | None = None) -> Box:
    x, y = _place(layout, *layout.centers[item])
    return Box(x, y, round(item.width * _SCALE, 1), round(item.height * _SCALE, 1), text, index, color)


def graph_from(plain: Mapping[str, Any]) -> Graph:
    """A graph from plain data, as ``report.json`` has it."""
    edges = tuple((str(start), str(end), str(label)) for start, end, label in plain["edges"])
    return Graph(str(plain["title"]), tuple(map(str, plain["nodes"])), edges)


@final
@dataclass(frozen=True)
class Tile:
    """Parts of a network that follow each other and are alike, in words.

    Attributes:
        what: They are.
        shape: Of what the last one makes: height × width × channels for images.
        parameters: Of one.
        color: Counts the colors of the page; None for what no choice decides.
        count: How many they are.
    """

    what: str
    shape: str
    parameters: str
    color: int | None
    count: int = 1


def strip(parts: Sequence[Mapping[str, Any]], colors: Mapping[str, int]) -> list[Tile]:
    """A network from its input to its output.

    What has no parameters, was not chosen and leaves the shape as it is, such as an activation, is left out.

    Args:
        parts: As ``report.json`` has them.
        colors: The color of each candidate; others take further ones.
    """
    chosen = dict.fromkeys(str(part["what"]) for part in parts if part["is_chosen"])
    known = {**{what: len(colors) + index for index, what in enumerate(chosen)}, **colors}
    tiles: list[Tile] = []
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and _is_plain(part) and part["shape"] == before["shape"]:
            continue
        what, shape = str(part["what"]), _shape(part["shape"])
        color = known[what] if part["is_chosen"] else None
        tile = Tile(what, shape, f"{part['parameters']:,} parameters", color)
        if tiles and replace(tiles[-1], count=1) == tile:
            tiles[-1] = replace(tile, count=tiles[-1].count + 1)
        else:
            tiles.append(tile)
    return tiles


def _is_plain(part: Mapping[str, Any]) -> bool:
    return not part["is_chosen"] and part["parameters"] == 0


def _shape(shape: Sequence[int]) -> str:
    """Of images height × width × channels, as the field writes it."""
    in_order = [*shape[1:], shape[0]] if len(shape) == 3 else shape
    return " × ".join(f"{size:,}" for size in in_order)
