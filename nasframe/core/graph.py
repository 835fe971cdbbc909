"""Graphs: the picture of a cell as plain data, and how it is drawn."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph to be drawn from left to right.

    Attributes:
        title: What it shows.
        nodes: Node names in a topological order.
        edges: (from, to, label) each.
    """

    title: str
    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]


def draw(graph: Graph) -> "Figure":
    """Draw a graph with matplotlib, one column for each depth."""
    raise NotImplementedError
