"""Merging: what is laid over what."""

from typing import Any

import pytest

from nasframe.recipe.tree import COMMAND_LINE, Node, Place, merge, node_of
from nasframe.registry import Component

FILE = Place("x.yaml", 1, 1)


@pytest.mark.parametrize(
    ("lower", "upper", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"type": "x", "a": 1}, {"type": "x", "b": 2}, {"type": "x", "a": 1, "b": 2}),
        ({"type": "x", "a": 1}, {"type": "y", "b": 2}, {"type": "y", "b": 2}),
        ({"type": "x", "a": 1}, {"b": 2}, {"type": "x", "a": 1, "b": 2}),
        ({"a": 1}, {"type": "y"}, {"a": 1, "type": "y"}),
        ({"type": "x", "a": 1}, "x", {"type": "x", "a": 1}),
        ({"type": "x", "a": 1}, "y", "y"),
        ("x", {"a": 1}, {"type": "x", "a": 1}),
        ("x", {"type": "y", "a": 1}, {"type": "y", "a": 1}),
        ("x", "y", "y"),
        ([1, 2], [3], [3]),
        ({"a": 1}, None, None),
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1}, 3, 3),
        ([1, 2], {"0": 3}, {"0": 3}),
    ],
)
def test_a_value_is_laid_over_another(lower: Any, upper: Any, merged: Any) -> None:
    assert merge(node_of(lower, FILE), node_of(upper, FILE)).plain == merged


def test_on_the_command_line_digits_are_indices() -> None:
    lower = node_of([{"type": "a", "x": 1}, "b"], FILE)
    assert merge(lower, node_of({"0": {"x": 2}}, COMMAND_LINE)).plain == [{"type": "a", "x": 2}, "b"]
    assert merge(lower, node_of({}, COMMAND_LINE)).plain == {}


def test_merging_keeps_the_place_of_each_value() -> None:
    upper = Place("y.yaml", 7, 3)
    merged = merge(node_of({"a": 1, "b": 2}, FILE), node_of({"b": 3}, upper))
    a, b = merged.find(("a",)), merged.find(("b",))
    assert a is not None
    assert b is not None
    assert (a.at, b.at) == (FILE, upper)


def test_a_component_is_a_mapping_with_its_type() -> None:
    component: Component[Any] = Component("things", "x", {"a": (1, Component("others", "y"))})
    assert node_of(component, FILE).plain == {"type": "x", "a": [1, {"type": "y"}]}


def test_parts_are_found_replaced_and_deleted_by_path() -> None:
    tree = node_of({"a": [1, {"b": 2}]}, FILE)
    assert tree.find(("a", "1", "b")) == Node(2, FILE, FILE)
    assert tree.find(("a", "2")) is None
    assert tree.find(("a", "x")) is None
    assert tree.with_child(("a", "1", "b"), node_of(3, FILE)).plain == {"a": [1, {"b": 3}]}
    assert tree.with_child(("a", "0"), None).plain == {"a": [{"b": 2}]}
    assert tree.plain == {"a": [1, {"b": 2}]}
