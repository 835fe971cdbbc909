"""The scale of a space's costs."""

import pytest

from nasframe.core import InputChoice, LayerChoice, Prices, cost_scale
from nasframe.errors import UnsupportedError


def test_the_scale_knows_the_cheapest_and_the_average_of_all_architectures():
    choices = {"one": LayerChoice("one", ("a", "b")), "two": LayerChoice("two", ("a", "b", "c"))}
    prices = Prices(
        10.0,
        {
            "one": {"a": Prices(4.0), "b": Prices(2.0)},
            "two": {"a": Prices(1.0), "b": Prices(2.0), "c": Prices(6.0)},
        },
    )
    scale = cost_scale(choices, prices, {"k": 1e3})
    assert scale.cheapest == 10 + 2 + 1
    assert scale.average == pytest.approx(10 + 3 + 3, rel=1e-12)
    assert scale.units == {"k": 1e3}


def test_the_average_counts_edges_as_often_as_they_are_kept():
    edges = ("e0", "e1", "e2")
    choices = {edge: LayerChoice(edge, ("none", "op"), search_only=("none",)) for edge in edges}
    choices["node"] = InputChoice("node", ("0", "1", "2"), num_chosen=2, edges=edges)
    prices = Prices(0.0, {edge: {"none": Prices(0.0), "op": Prices(3.0)} for edge in edges}, frozenset(edges))
    scale = cost_scale(choices, prices, {})
    assert scale.cheapest == 6
    assert scale.average == pytest.approx(6, rel=1e-12)


def test_the_scale_of_another_space_is_refused():
    with pytest.raises(UnsupportedError, match="choice `one` must have the candidates"):
        cost_scale({}, Prices(0.0, {"one": {"a": Prices(1.0)}}), {})
