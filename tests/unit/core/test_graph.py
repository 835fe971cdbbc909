"""Graphs: how they are drawn."""

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from nasframe.core import Graph, draw
from nasframe.core.graph import to_pixels, to_svg
from nasframe.core.graph_layout import Item, Layout, lay_out

SINGLE = Graph("one edge", ("a", "b"), (("a", "b", "sep_conv_3x3"),))
CELL = Graph(
    "normal cell",
    ("c_{k-2}", "c_{k-1}", "0", "1", "2", "3", "c_{k}"),
    (
        ("c_{k-1}", "0", "sep_conv_3x3"),
        ("c_{k-2}", "0", "sep_conv_3x3"),
        ("c_{k-2}", "1", "skip_connect"),
        ("c_{k-1}", "1", "dil_conv_5x5"),
        ("c_{k-2}", "2", "skip_connect"),
        ("1", "2", "max_pool_3x3"),
        ("c_{k-2}", "3", "sep_conv_3x3"),
        ("0", "3", "conv_7x1_1x7"),
        *((node, "c_{k}", "") for node in "0123"),
    ),
)
TWICE = Graph(
    "twice", ("a", "b", "c"), (("a", "b", "skip"), ("a", "b", "pool"), ("a", "c", ""), ("b", "c", "x"))
)
GRAPHS = [SINGLE, CELL, TWICE, Graph("no edge", ("a", "b"), ()), Graph("nothing", (), ())]
WIDTH, HEIGHT = 0.5, 0.4
TOLERANCE = 1e-9


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = tuple(f"n{index}" for index in range(draw(st.integers(1, 8))))
    forward = list(itertools.combinations(nodes, 2))
    edges = (
        draw(
            st.lists(
                st.tuples(st.sampled_from(forward), st.sampled_from(["", "op", "another_op"])), max_size=14
            )
        )
        if forward
        else []
    )
    return Graph("any", nodes, tuple((start, end, label) for (start, end), label in edges))


def laid_out(graph: Graph) -> Layout:
    return lay_out(graph.nodes, graph.edges, lambda _: (WIDTH, HEIGHT), lambda label: (0.1 * len(label), 0.2))


def boxes(layout: Layout) -> dict[Item, tuple[float, float, float, float]]:
    return {
        item: (x - item.width / 2, x + item.width / 2, y - item.height / 2, y + item.height / 2)
        for item, (x, y) in layout.centers.items()
        if item.width
    }


def points_on(route: list[tuple[float, float]]) -> np.ndarray:
    """Points of a path of cubic Bézier curves, by Bernstein's polynomials."""
    t = np.linspace(0, 1, 60)[:, None]
    points = np.asarray(route)
    curves = [points[start : start + 4] for start in range(0, len(points) - 1, 3)]
    return np.concatenate(
        [
            (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
            for a, b, c, d in curves
        ]
    )


def texts_of(figure: Figure) -> list[tuple[str, PathPatch]]:
    return [(str(patch.get_label()), patch) for patch in figure.artists if isinstance(patch, PathPatch)]


@given(graphs())
@settings(deadline=None, max_examples=40)
def test_boxes_lie_inside_and_apart_from_each_other(graph: Graph) -> None:
    layout = laid_out(graph)
    for left, right, bottom, top in boxes(layout).values():
        assert -TOLERANCE <= left < right <= layout.width + TOLERANCE
        assert -TOLERANCE <= bottom < top <= layout.height + TOLERANCE
    for one, other in itertools.combinations(boxes(layout).values(), 2):
        beside = one[1] <= other[0] + TOLERANCE or other[1] <= one[0] + TOLERANCE
        above = one[3] <= other[2] + TOLERANCE or other[3] <= one[2] + TOLERANCE
        assert beside or above


@given(graphs())
@settings(deadline=None, max_examples=40)
def test_an_edge_meets_its_own_boxes_alone_and_never_turns_back(graph: Graph) -> None:
    layout = laid_out(graph)
    for index, chain in enumerate(layout.chains):
        x, y = points_on(layout.route(index)).T
        assert (np.diff(x) >= -TOLERANCE).all()
        assert y.min() >= -TOLERANCE
        assert y.max() <= layout.height + TOLERANCE
        for item, (left, right, bottom, top) in boxes(layout).items():
            if item not in chain:
                assert not ((left < x) & (x < right) & (bottom < y) & (y < top)).any()


@given(graphs())
@settings(deadline=None, max_examples=40)
def test_an_edge_runs_from_the_right_of_its_source_to_the_left_of_its_target(graph: Graph) -> None:
    layout = laid_out(graph)
    place = {item.name: center for item, center in layout.centers.items() if item.name}
    assert set(place) == set(graph.nodes)
    for index, (source, target, label) in enumerate(graph.edges):
        route = layout.route(index)
        assert route[0] == pytest.approx((place[source][0] + WIDTH / 2, place[source][1]))
        assert route[-1] == pytest.approx((place[target][0] - WIDTH / 2, place[target][1]))
        labels = [item for item in layout.chains[index] if not item.name and item.width]
        assert len(labels) == bool(label)
        assert all(layout.centers[item][0] < place[target][0] for item in labels)


def test_the_first_of_two_equal_nodes_stands_above() -> None:
    layout = laid_out(Graph("", ("a", "b", "c"), (("a", "c", ""), ("b", "c", ""))))
    height = {item.name: y for item, (_, y) in layout.centers.items()}
    assert height["a"] > height["c"] > height["b"]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.title)
def test_a_picture_shows_title_nodes_and_labels(graph: Graph) -> None:
    with_index = [part for node in graph.nodes if "_{" in node for part in node.rstrip("}").split("_{")]
    fonts = {part.replace("-", "−"): FontProperties(style="italic") for part in with_index}
    fonts[graph.title] = FontProperties(weight="bold")
    plain = [node for node in graph.nodes if "_{" not in node] + [label for *_, label in graph.edges if label]
    expected = [graph.title, *plain, *(part.replace("-", "−") for part in with_index)]
    shown = texts_of(draw(graph))
    assert sorted(text for text, _ in shown) == sorted(expected)
    for text, patch in shown:  # shaped as matplotlib writes it
        vertices, codes = text_to_path.get_text_path(fonts.get(text, FontProperties()), text)
        written, here = Path(vertices, codes).get_extents(), patch.get_path().get_extents()
        assert here.width / here.height == pytest.approx(written.width / written.height)


@pytest.mark.parametrize("graph", [SINGLE, CELL, TWICE], ids=lambda graph: graph.title)
def test_texts_fit_into_their_boxes(graph: Graph) -> None:
    figure = draw(graph)
    figure.canvas.draw()
    frames = [patch.get_window_extent() for patch in figure.artists if isinstance(patch, FancyBboxPatch)]
    for text, patch in texts_of(figure):
        box = patch.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        if text != graph.title:
            assert any(
                frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                for frame in frames
            )


def test_pixels_are_a_white_page_with_ink() -> None:
    figure = draw(CELL)
    pixels = to_pixels(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert pixels.dtype == np.uint8
    assert pixels.shape == (int(height), int(width), 3)
    assert (pixels[0, 0] == 255).all()
    assert 0.02 < (pixels < 128).any(axis=2).mean() < 0.5


def test_the_same_graph_gives_the_same_picture() -> None:
    assert to_svg(draw(CELL)) == to_svg(draw(CELL))
    assert np.array_equal(to_pixels(draw(CELL)), to_pixels(draw(CELL)))


def test_svg_is_well_formed_and_scalable() -> None:
    root = ElementTree.fromstring(to_svg(draw(CELL)))
    assert root.tag.endswith("svg")
    assert root.get("viewBox")


def test_text_is_never_taken_for_a_formula_or_markup() -> None:
    graph = Graph("<b> $x_1$ & $", ("$", "&"), (("$", "&", "a$b$<c>"),))
    assert {"<b> $x_1$ & $", "$", "&", "a$b$<c>"} == {text for text, _ in texts_of(draw(graph))}
    for name in ("c_{\\frac{", "c_{" * 50 + "}" * 50, "c_{}", "_{k}"):
        assert name in {text for text, _ in texts_of(draw(Graph("", (name,), ())))}
    ElementTree.fromstring(to_svg(draw(graph)))
    assert to_pixels(draw(graph)).shape[2] == 3


def test_edges_are_colored_by_the_family_of_their_operation() -> None:
    def color_of(label: str) -> object:
        drawn = draw(Graph("", ("a", "b"), (("a", "b", label),))).artists
        (arrow,) = (patch for patch in drawn if isinstance(patch, FancyArrowPatch))
        return arrow.get_edgecolor()

    assert color_of("sep_conv_3x3") == color_of("sep_conv_5x5")
    assert color_of("max_pool_3x3") == color_of("avg_pool_3x3")
    families = ("sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3", "skip_connect", "conv_7x1_1x7", "")
    assert len({color_of(label) for label in families}) == len(families)


def test_drawing_leaves_no_figure_behind() -> None:
    draw(CELL)
    assert Gcf.get_all_fig_managers() == []
