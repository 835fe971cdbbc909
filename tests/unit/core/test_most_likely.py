"""The most likely architecture under a budget, against enumeration."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasframe.core import Genotype, InputChoice, LayerChoice, Prices, cheapest, dearest, most_likely
from nasframe.errors import UnsupportedError

NODE = InputChoice("node", ("0", "1", "2"), num_chosen=2, edges=("edge_0", "edge_1", "edge_2"))


def _architectures(choices):
    """Every outcome of all choices: an edge keeps a candidate where its node keeps it, else none."""
    edges = {edge for choice in choices.values() for edge in getattr(choice, "edges", ())}
    plain = {name: choice for name, choice in choices.items() if name not in edges}
    options = [itertools.combinations(choice.derivable, choice.num_chosen) for choice in plain.values()]
    for outcome in itertools.product(*options):
        kept = dict(zip(plain, outcome, strict=True))
        reached = [
            edge
            for name, names in kept.items()
            for edge, state in zip(
                getattr(choices[name], "edges", ()), choices[name].candidates, strict=False
            )
            if state in names
        ]
        for candidates in itertools.product(*(choices[edge].derivable for edge in reached)):
            yield kept | {edge: (name,) for edge, name in zip(reached, candidates, strict=True)}


def _log_likelihood(kept, choices, weights):
    return math.fsum(
        math.log(max(weights[name][choices[name].candidates.index(each)], 5e-324))
        for name, names in kept.items()
        if name in weights
        for each in names
    )


# sums of these are exact, so that a budget may lie on the cost of an architecture
costs = st.one_of(st.integers(0, 4).map(float), st.integers(0, 640).map(lambda number: number / 64))
weight = st.one_of(st.sampled_from([0.0, 0.25, 0.5]), st.floats(1e-3, 1))


@st.composite
def _spaces(draw):
    """Choices, weights, and prices in which any may be nested in, and so coupled with, any other."""
    choices = {}
    for index in range(draw(st.integers(1, 3))):
        names = tuple("abc"[: draw(st.integers(1, 3))])
        search_only = ("a",) if len(names) > 1 and draw(st.booleans()) else ()
        num_chosen = draw(st.integers(1, len(names) - len(search_only)))
        choices[f"choice_{index}"] = LayerChoice(f"choice_{index}", names, num_chosen, search_only)
    if draw(st.booleans()):
        choices |= {edge: LayerChoice(edge, ("none", "x", "y"), 1, ("none",)) for edge in NODE.edges}
        choices["node"] = NODE
    priced = [name for name in choices if name != "node"]
    weights = {name: [draw(weight) for _ in choices[name].candidates] for name in priced}

    def prices(depth):
        inside = draw(st.lists(st.sampled_from(priced), max_size=1)) if depth else []
        return Prices(
            draw(costs),
            {name: {each: prices(depth - 1) for each in choices[name].candidates} for name in inside},
        )

    whole = {
        name: {each: prices(draw(st.integers(0, 2))) for each in choices[name].candidates} for name in priced
    }
    return choices, weights, Prices(draw(costs), whole, frozenset(priced))


def _prunable(prices):
    """The same prices, in which no choice need be decided at any depth."""
    choices = {
        choice: {name: _prunable(inner) for name, inner in candidates.items()}
        for choice, candidates in prices.choices.items()
    }
    return Prices(prices.fixed, choices, frozenset(choices))


@settings(max_examples=100, deadline=None)
@given(space=_spaces(), share=st.floats(0, 1))
def test_it_is_the_best_of_all_architectures_within_the_budget(space, share):
    choices, weights, prices = space
    prices = _prunable(prices)
    all_of_them = list(_architectures(choices))
    cost_of = [prices.of(Genotype(kept)) for kept in all_of_them]
    by_cost = sorted(cost_of)
    max_cost = by_cost[min(int(share * len(by_cost)), len(by_cost) - 1)]
    found = most_likely(choices, weights, prices, max_cost)
    assert prices.of(found) <= max_cost
    best = max(
        _log_likelihood(kept, choices, weights)
        for kept, cost in zip(all_of_them, cost_of, strict=True)
        if cost <= max_cost
    )
    assert _log_likelihood(found.choices, choices, weights) >= best - 1e-9
    assert {name: tuple(sorted(kept)) for name, kept in found.choices.items()} in all_of_them
    assert prices.of(cheapest(choices, prices)) == by_cost[0]
    assert prices.of(dearest(choices, prices)) == by_cost[-1]


@settings(max_examples=20, deadline=None)
@given(space=_spaces())
def test_where_nothing_keeps_the_budget_the_cost_of_the_cheapest_is_told(space):
    choices, weights, prices = space
    prices = _prunable(prices)
    least = min(prices.of(Genotype(kept)) for kept in _architectures(choices))
    with pytest.raises(UnsupportedError, match="the cheapest costs") as caught:
        most_likely(choices, weights, prices, least - 1)
    assert f"the cheapest costs {prices.of(cheapest(choices, prices)):g};" in str(caught.value)


def _chain(num_layers, candidates, table):
    """A choice a layer whose candidates cost as `table` says."""
    choices = {f"layer_{i}": LayerChoice(f"layer_{i}", candidates) for i in range(num_layers)}
    prices = {
        name: {each: Prices(float(cost)) for each, cost in zip(candidates, row, strict=True)}
        for name, row in zip(choices, table.tolist(), strict=True)
    }
    return choices, Prices(100.0, prices)


def test_a_macro_space_agrees_with_all_its_6561_architectures():
    generator = torch.Generator().manual_seed(0)
    for whole_numbers in (True, False):
        table = torch.rand(8, 3, generator=generator, dtype=torch.float64).sort(1).values * 1000
        table = table.round() if whole_numbers else table
        choices, prices = _chain(8, ("0", "1", "2"), table)
        logits = torch.randn(8, 3, generator=generator, dtype=torch.float64) + 1e-3 * table
        p = torch.softmax(logits, 1)
        digits = torch.cartesian_prod(*[torch.arange(3)] * 8)
        every_cost = 100 + table.gather(1, digits.T).sum(0)
        every_log = p.log().gather(1, digits.T).sum(0)
        for max_cost in torch.linspace(float(every_cost.min()), float(every_cost.max()), 40).tolist():
            weights = dict(zip(choices, p.tolist(), strict=True))
            found = most_likely(choices, weights, prices, max_cost + 1e-6)
            index = [int(found[name][0]) for name in choices]
            best = every_log[every_cost <= max_cost + 1e-6].max()
            assert prices.of(found) <= max_cost + 1e-6
            assert float(p.log()[range(8), index].sum()) == pytest.approx(float(best), abs=1e-9)


def test_of_equally_likely_architectures_the_cheapest_wins_then_the_first():
    table = torch.tensor([[3.0, 1.0, 1.0], [2.0, 2.0, 5.0]])
    choices, prices = _chain(2, ("a", "b", "c"), table)
    equal = {name: [1 / 3] * 3 for name in choices}
    assert most_likely(choices, equal, prices, 200.0) == Genotype({"layer_0": ("b",), "layer_1": ("a",)})
    assert most_likely(choices, {}, prices, 200.0) == cheapest(choices, prices)


def test_a_choice_inside_a_candidate_that_is_not_kept_keeps_its_strongest():
    choices = {"outer": LayerChoice("outer", ("plain", "nested")), "inner": LayerChoice("inner", ("a", "b"))}
    prices = Prices(
        0.0,
        {
            "outer": {
                "plain": Prices(1.0),
                "nested": Prices(1.0, {"inner": {"a": Prices(1.0), "b": Prices(9.0)}}),
            }
        },
    )
    weights = {"outer": [0.4, 0.6], "inner": [0.1, 0.9]}
    assert most_likely(choices, weights, prices, 10.0) == Genotype({"outer": ("nested",), "inner": ("b",)})
    # 0.4 × 0.9 against 0.6 × 0.1
    assert most_likely(choices, weights, prices, 9.0) == Genotype({"outer": ("plain",), "inner": ("b",)})


def test_what_is_kept_comes_strongest_first():
    choices = {edge: LayerChoice(edge, ("x", "y")) for edge in NODE.edges} | {"node": NODE}
    prices = Prices(
        0.0, {edge: {"x": Prices(1.0), "y": Prices(5.0)} for edge in NODE.edges}, frozenset(NODE.edges)
    )
    weights = {"edge_0": [0.3, 0.7], "edge_1": [0.5, 0.5], "edge_2": [0.45, 0.55]}
    assert most_likely(choices, weights, prices, 10.0)["node"] == ("0", "2")
    # within 6 one edge has y: 0.7 × 0.5 on edges 0 and 1
    tight = most_likely(choices, weights, prices, 6.0)
    assert dict(tight.choices) == {"node": ("0", "1"), "edge_0": ("y",), "edge_1": ("x",)}


def test_a_long_chain_of_coupled_choices_is_solved():
    """Each layer's price depends on its own width and on that of the layer before."""
    widths = ("2", "4", "8")
    choices = {f"width_{i}": LayerChoice(f"width_{i}", widths) for i in range(12)}
    names = list(choices)
    prices = Prices(0.0, {names[0]: {width: Prices(float(width)) for width in widths}})
    coupled = {
        one: {
            before: Prices(0.0, {two: {after: Prices(float(before) * float(after)) for after in widths}})
            for before in widths
        }
        for one, two in itertools.pairwise(names)
    }
    first = {w: Prices(float(w), coupled[names[0]][w].choices) for w in widths}
    prices = Prices(0.0, {**coupled, names[0]: first})
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(torch.randn(12, 3, generator=generator, dtype=torch.float64), 1)
    weights = dict(zip(names, p.tolist(), strict=True))
    max_cost = 150.0
    found = most_likely(choices, weights, prices, max_cost)
    # independently: the best log-likelihood for each last width and each whole cost, layer by layer
    best = {(w, int(w)): math.log(weights[names[0]][k]) for k, w in enumerate(widths)}
    for name in names[1:]:
        after = {}
        for (before, cost), score in best.items():
            for k, width in enumerate(widths):
                key = (width, cost + int(before) * int(width))
                after[key] = max(after.get(key, -math.inf), score + math.log(weights[name][k]))
        best = after
    expected = max(score for (_, cost), score in best.items() if cost <= max_cost)
    assert prices.of(found) <= max_cost
    assert _log_likelihood(found.choices, choices, weights) == pytest.approx(expected, abs=1e-9)


def test_prices_of_another_space_are_refused():
    choices = {"one": LayerChoice("one", ("a", "b"))}
    for candidates in ({"b": Prices(1.0), "a": Prices(1.0)}, {"a": Prices(1.0)}):
        with pytest.raises(UnsupportedError, match=r"choice `one` must have the candidates \['a', 'b'\]"):
            most_likely(choices, {}, Prices(0.0, {"one": candidates}), 9.0)
    with pytest.raises(UnsupportedError, match="choice `two` must have the candidates"):
        cheapest(choices, Prices(0.0, {"two": {"a": Prices(1.0)}}))
