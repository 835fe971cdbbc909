import re

from nasframe.core import Graph
from nasframe.pages.drawing import drawn, strip

GRAPH = Graph(
    "cell",
    ("c_{k-1}", "0", "c_{k}"),
    (("c_{k-1}", "0", "skip"), ("c_{k-1}", "0", "conv"), ("0", "c_{k}", "")),
)


def test_a_graph_is_drawn_within_its_box_with_every_node_and_label():
    picture = drawn(GRAPH, {"conv": 3})
    assert [box.text for box in picture.boxes] == ["skip", "conv", "c", "0", "c"]
    assert [box.index for box in picture.boxes if box.color is None] == ["k\N{MINUS SIGN}1", "", "k"]
    for box in picture.boxes:
        assert 0 < box.x - box.width / 2 < box.x + box.width / 2 < picture.width
        assert 0 < box.y - box.height / 2 < box.y + box.height / 2 < picture.height


def test_a_label_has_the_color_that_it_has_elsewhere_on_the_page():
    picture = drawn(GRAPH, {"conv": 3})
    assert [color for _, _, color in picture.edges] == [1, 3, None]
    assert {box.text: box.color for box in picture.boxes if box.color is not None} == {"skip": 1, "conv": 3}


def test_an_edge_ends_with_its_head_at_the_border_of_its_target():
    picture = drawn(GRAPH, {})
    target = next(box for box in picture.boxes if box.text == "0")
    for _, head, _ in picture.edges[:2]:
        tip = [float(number) for number in re.split("[ ,]", head)][2:4]
        assert abs(tip[0] - (target.x - target.width / 2)) < 0.2
        assert abs(tip[1] - target.y) < 0.2


def test_parts_that_follow_each_other_and_are_alike_are_one_tile():
    part = {"what": "a", "shape": [3, 4, 5], "parameters": 1200, "is_chosen": True}
    tiles = strip([part, part, {**part, "what": "b", "shape": [10]}, part], {"b": 0})
    assert [(tile.what, tile.count, tile.color) for tile in tiles] == [("a", 2, 1), ("b", 1, 0), ("a", 1, 1)]
    assert tiles[0].shape == "4 × 5 × 3"
    assert tiles[0].parameters == "1,200 parameters"
    assert tiles[1].shape == "10"


def test_what_changes_nothing_that_is_shown_is_no_tile():
    conv = {"what": "conv", "shape": [3, 4, 4], "parameters": 9, "is_chosen": False}
    relu = {**conv, "what": "relu", "parameters": 0}
    skip = {**relu, "what": "skip", "is_chosen": True}
    pool = {**relu, "what": "pool", "shape": [3]}
    assert [tile.what for tile in strip([conv, relu, skip, pool, relu], {})] == [
        "conv",
        "skip",
        "pool",
        "relu",
    ]
