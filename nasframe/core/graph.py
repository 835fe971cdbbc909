"""Graphs: the picture of a cell as plain data, and how it is drawn."""

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias, final

import numpy as np

from nasframe.core.graph_layout import Item, Layout, lay_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.path import Path

_DPI = 120
_MARGIN, _TITLE_HEIGHT = 0.18, 0.34  # inches
_NODE_FONT, _INDEX_FONT, _LABEL_FONT = 10.5, 7.4, 8.5  # points
_MIDDLE = 0.0047  # inches that the middle of letters is above their line, a point of their font
_INK, _NODE_FACE, _NODE_EDGE, _PLAIN = "#1f2933", "#eef2f7", "#52606d", "#9aa5b1"
_COLORS = {"sep": "#2563eb", "dil": "#0f9d76", "pool": "#d97706", "skip": "#6b7280"}
_OTHER = "#9333ea"
Font: TypeAlias = Literal["plain", "bold", "italic"]


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph to be drawn from left to right.

    Attributes:
        title: What it shows.
        nodes: Node names in a topological order; the index of ``c_{k}`` is set below the line.
        edges: (from, to, label) each; the label may be empty.
    """

    title: str
    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]


def draw(*graphs: Graph) -> "Figure":
    """Draw graphs with matplotlib, one below the other.

    Each has one column for each depth; an edge's color is its label's family.
    """
    # matplotlib takes half a second to import, which whoever draws nothing need not wait for
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layouts = [lay_out(graph.nodes, graph.edges, _node_size, _label_size) for graph in graphs]
    widths = [
        max(layout.width, _text_width(graph.title, _NODE_FONT))
        for graph, layout in zip(graphs, layouts, strict=True)
    ]
    heights = [layout.height + 2 * _MARGIN + _TITLE_HEIGHT for layout in layouts]
    bottom = sum(heights)
    figure = Figure(figsize=(max(widths) + 2 * _MARGIN, bottom), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for graph, layout, height in zip(graphs, layouts, heights, strict=True):
        bottom -= height
        page = _Page(figure, bottom)
        page.write(0, height - 2 * _MARGIN - 0.11, graph.title, _NODE_FONT, _INK, at=0, font="bold")
        for index, (_, _, label) in enumerate(graph.edges):
            _draw_edge(page, layout, index, label)
        for item, center in layout.centers.items():
            if item.name:
                _draw_node(page, item, center)
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
    return max(0.42, _text_width("".join(_split(name)), _NODE_FONT) + 0.2), 0.38


def _label_size(label: str) -> tuple[float, float]:
    return _text_width(label, _LABEL_FONT) + 0.16, 0.24


def _color(label: str) -> str:
    if not label:
        return _PLAIN
    return next((color for family, color in _COLORS.items() if family in label), _OTHER)


@final
class _Page:
    """A figure that is drawn on in inches, from the lower left within its margin.

    Axes would take as long as the rest of a picture, and matplotlib's texts three times as long.

    Args:
        figure: The figure.
        bottom: Where the page begins.
    """

    def __init__(self, figure: "Figure", bottom: float) -> None:
        from matplotlib.transforms import Affine2D

        self._figure = figure
        self._inches = Affine2D().translate(_MARGIN, bottom + _MARGIN) + figure.dpi_scale_trans

    def add(self, patch: "Patch") -> None:
        patch.set_transform(self._inches)
        self._figure.add_artist(patch)

    def write(
        self, x: float, y: float, text: str, size: float, color: str, *, at: float = 0.5, font: Font = "plain"
    ) -> None:
        """Text as it is, never as a formula: on the line y, with the share `at` of its width left of x."""
        from matplotlib.patches import PathPatch
        from matplotlib.transforms import Affine2D

        outline, width = _outline(text, font)
        inches = size / 72 / 100
        place = Affine2D().scale(inches).translate(x - at * width * inches, y)
        self.add(PathPatch(place.transform_path(outline), facecolor=color, linewidth=0, zorder=3, label=text))


@lru_cache(maxsize=256)
def _outline(text: str, font: Font) -> tuple["Path", float]:
    """A text's outline from the left end of its line, and its width, in hundredths of the font's size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import text_to_path

    looks = FontProperties(
        weight="bold" if font == "bold" else "normal", style="italic" if font == "italic" else "normal"
    )
    vertices, codes = text_to_path.get_text_path(looks, text)
    return Path(vertices, codes), max((x for x, _ in vertices), default=0.0)


def _draw_edge(page: _Page, layout: Layout, index: int, label: str) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points = layout.route(index)
    path = Path(points, [Path.MOVETO, *[Path.CURVE4] * (len(points) - 1)])
    page.add(
        FancyArrowPatch(
            path=path, arrowstyle="-|>", mutation_scale=9, linewidth=1.5, color=_color(label), zorder=1
        )
    )
    for item in layout.chains[index]:
        if label and not item.name and item.width:
            x, y = layout.centers[item]
            _draw_box(page, item, (x, y), face="white", edge=_color(label), rounding=item.height / 2)
            page.write(x, y - _MIDDLE * _LABEL_FONT, label, _LABEL_FONT, _color(label))


def _draw_node(page: _Page, item: Item, center: tuple[float, float]) -> None:
    _draw_box(page, item, center, face=_NODE_FACE, edge=_NODE_EDGE, rounding=0.08)
    name, index = _split(item.name)
    x, y = center[0], center[1] - _MIDDLE * _NODE_FONT
    if not index:
        page.write(x, y, name, _NODE_FONT, _INK)
        return
    x += (_text_width(name, _NODE_FONT) - _text_width(index, _INDEX_FONT)) / 2
    page.write(x, y, name, _NODE_FONT, _INK, at=1, font="italic")
    page.write(x, y - 0.03, index, _INDEX_FONT, _INK, at=0, font="italic")


def _split(name: str) -> tuple[str, str]:
    """A name and its index: ``c_{k}`` is c and k; empty where it has none."""
    parts = re.fullmatch(r"([^{}]+)_\{([^{}]+)\}", name)
    return (parts[1], parts[2].replace("-", "\N{MINUS SIGN}")) if parts else (name, "")


def _draw_box(
    page: _Page, item: Item, center: tuple[float, float], *, face: str, edge: str, rounding: float
) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (center[0] - item.width / 2, center[1] - item.height / 2)
    style = f"round,pad=0,rounding_size={rounding}"
    page.add(FancyBboxPatch(corner, item.width, item.height, style, facecolor=face, edgecolor=edge, zorder=2))
