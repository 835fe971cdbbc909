"""Graphs: the picture of a cell as plain data, and how it is drawn."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nasframe.core.graph_layout import Item, Layout, lay_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 160
_MARGIN, _TITLE_HEIGHT = 0.18, 0.34  # inches
_NODE_FONT, _LABEL_FONT = 10.5, 8.5  # points
_INK, _NODE_FACE, _NODE_EDGE, _PLAIN = "#1f2933", "#eef2f7", "#52606d", "#9aa5b1"
_COLORS = {"sep": "#2563eb", "dil": "#0f9d76", "pool": "#d97706", "skip": "#6b7280"}
_OTHER = "#9333ea"


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph to be drawn from left to right.

    Attributes:
        title: What it shows.
        nodes: Node names in a topological order; one with ``_{`` is set as a formula: ``c_{k}``.
        edges: (from, to, label) each; the label may be empty.
    """

    title: str
    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]


def draw(graph: Graph) -> "Figure":
    """Draw a graph with matplotlib, one column for each depth; an edge's color is its label's family."""
    # matplotlib takes half a second to import, which whoever draws nothing need not wait for
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = lay_out(graph.nodes, graph.edges, _node_size, _label_size)
    width = max(layout.width, _text_width(graph.title, _NODE_FONT)) + 2 * _MARGIN
    height = layout.height + 2 * _MARGIN + _TITLE_HEIGHT
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-_MARGIN, width - _MARGIN)
    axes.set_ylim(-_MARGIN, height - _MARGIN)
    top = height - 2 * _MARGIN
    axes.text(0, top, graph.title, size=_NODE_FONT, weight="bold", color=_INK, va="top", parse_math=False)
    for index, (_, _, label) in enumerate(graph.edges):
        _draw_edge(axes, layout, index, label)
    for item, center in layout.centers.items():
        if item.name:
            _draw_node(axes, item, center)
    return figure


def to_pixels(figure: "Figure") -> np.ndarray:
    """The picture as uint8, of shape H W 3."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    return pixels


def to_svg(figure: "Figure") -> str:
    """The picture as SVG; the same picture gives the same text."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "nasframe", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _text_width(text: str, size: float) -> float:
    """Roughly, in inches: a character of the default font is 0.6 of its size wide."""
    return 0.6 * size / 72 * len(text)


def _node_size(name: str) -> tuple[float, float]:
    letters = name.replace("_{", "").replace("}", "")
    return max(0.42, _text_width(letters, _NODE_FONT) + 0.2), 0.38


def _label_size(label: str) -> tuple[float, float]:
    return _text_width(label, _LABEL_FONT) + 0.16, 0.24


def _color(label: str) -> str:
    if not label:
        return _PLAIN
    return next((color for family, color in _COLORS.items() if family in label), _OTHER)


def _draw_edge(axes: "Axes", layout: Layout, index: int, label: str) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points = layout.route(index)
    path = Path(points, [Path.MOVETO, *[Path.CURVE4] * (len(points) - 1)])
    arrow = FancyArrowPatch(
        path=path, arrowstyle="-|>", mutation_scale=9, linewidth=1.5, color=_color(label), zorder=1
    )
    axes.add_artist(arrow)  # unlike `add_patch` it does not look for new limits of the axes
    for item in layout.chains[index]:
        if label and not item.name and item.width:
            center = layout.centers[item]
            _draw_box(axes, item, center, face="white", edge=_color(label), rounding=item.height / 2)
            axes.text(
                *center, label, size=_LABEL_FONT, color=_color(label), ha="center", va="center_baseline",
                parse_math=False, zorder=3,
            )  # fmt: skip


def _draw_node(axes: "Axes", item: Item, center: tuple[float, float]) -> None:
    _draw_box(axes, item, center, face=_NODE_FACE, edge=_NODE_EDGE, rounding=0.08)
    formula = "_{" in item.name
    axes.text(
        *center, f"${item.name}$" if formula else item.name, size=_NODE_FONT, color=_INK, ha="center",
        va="center", parse_math=formula, zorder=3,
    )  # fmt: skip


def _draw_box(
    axes: "Axes", item: Item, center: tuple[float, float], *, face: str, edge: str, rounding: float
) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (center[0] - item.width / 2, center[1] - item.height / 2)
    style = f"round,pad=0,rounding_size={rounding}"
    axes.add_artist(
        FancyBboxPatch(corner, item.width, item.height, style, facecolor=face, edgecolor=edge, zorder=2)
    )
