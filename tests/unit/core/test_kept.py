"""The probability that a candidate is kept, against enumeration of genotypes."""

import itertools
from math import prod

import pytest
import torch
from torch.nn import functional

from nasframe.core import (
    InputChoice,
    LayerChoice,
    Task,
    costs,
    expected_cost,
    keep_probabilities,
    mixed_ops,
    price,
    spaces,
    supernet,
)
from nasframe.core.genotype import Genotype

OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
TASK = Task((1, 8, 8), 3)
SETTINGS = {"channels": 2, "cells": 3, "nodes": 2, "stem_multiplier": 1, "operations": OPERATIONS}


def _nodes(cell):
    return {node: [f"{cell}_{node}_{state}" for state in range(node)] for node in (2, 3)}


def _cells(p, cell):
    """All ways to derive a cell, each with the product of the weights of what it keeps."""
    options = []
    for node, edges in _nodes(cell).items():
        of_node = []
        for pair in itertools.combinations(range(node), 2):
            for names in itertools.product(OPERATIONS[1:], repeat=2):
                kept = {edges[state]: name for state, name in zip(pair, names, strict=True)}
                of_node.append((kept, prod(p[edge][OPERATIONS.index(name)] for edge, name in kept.items())))
        options.append(of_node)
    for parts in itertools.product(*options):
        yield {k: v for kept, _ in parts for k, v in kept.items()}, prod(weight for _, weight in parts)


def _doubles(space, mixed_op="softmax"):
    torch.manual_seed(0)
    model = supernet(space, mixed_op).double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape, dtype=torch.float64))
    return model


@pytest.fixture(scope="module")
def darts():
    space = spaces["darts"](TASK, **SETTINGS)
    return space, price(space, TASK, costs["parameters"]())


def test_expected_cost_of_cells_that_lose_edges_is_that_of_all_derived_networks(darts):
    space, prices = darts
    model = _doubles(space)
    p = {name: weights.tolist() for name, weights in model.choice_weights().items()}
    # the cost is a sum over the two cells, so their architectures need not be combined
    expected = prices.fixed
    for cell in ("normal", "reduce"):
        architectures = list(_cells(p, cell))
        assert len(architectures) == 9 * 27
        total = sum(weight for _, weight in architectures)
        expected += sum(
            weight / total * (prices.of(Genotype({k: (v,) for k, v in kept.items()})) - prices.fixed)
            for kept, weight in architectures
        )
    assert expected_cost(model, prices).item() == pytest.approx(expected, rel=1e-10)


def test_each_edge_is_kept_as_often_as_in_all_derived_cells(darts):
    model = _doubles(darts[0])
    weights = model.choice_weights()
    found = keep_probabilities(model.choices, weights)
    architectures = list(_cells({name: w.tolist() for name, w in weights.items()}, "reduce"))
    total = sum(weight for _, weight in architectures)
    for edge in (edge for edges in _nodes("reduce").values() for edge in edges):
        for name, probability in zip(OPERATIONS, found[edge].tolist(), strict=True):
            share = sum(weight for kept, weight in architectures if kept.get(edge) == name) / total
            assert probability == pytest.approx(share, abs=1e-10)
    for edges in _nodes("reduce").values():
        assert sum(float(found[edge].sum()) for edge in edges) == pytest.approx(2, rel=1e-12)


def test_an_operation_that_is_never_kept_takes_no_part(darts):
    """Weight on ``none`` alone must not make the derived network look cheap."""
    space, prices = darts
    model = _doubles(space)
    before = expected_cost(model, prices)
    with torch.no_grad():
        for name, op in model.mixed_ops.items():
            if not name.startswith("normal_3"):  # all edges of a node alike, so that none gains on another
                op.alpha[0] += 3.0
    kept = keep_probabilities(model.choices, model.choice_weights())
    assert all(float(kept[name][0]) == 0 for name in model.mixed_ops._modules)
    assert sum(float(kept[f"normal_2_{state}"].sum()) for state in range(2)) == pytest.approx(2)
    assert expected_cost(model, prices).item() > 0.5 * before.item()


NORMALIZED = {
    "sigmoid": torch.sigmoid,
    "dirichlet": lambda alpha: (functional.elu(alpha) + 1) / (functional.elu(alpha) + 1).sum(),
}


@pytest.mark.parametrize("name", sorted(set(mixed_ops.names()) - {"uniform_path"}))
def test_gradient_under_pruning_is_right_for_each_mixed_op(darts, name):
    space, prices = darts
    model = _doubles(space, name)
    alphas = list(model.parameters_at("upper"))

    def cost(*values):
        weights = {
            choice: NORMALIZED.get(name, lambda alpha: torch.softmax(alpha, 0))(value)
            for choice, value in zip(model.mixed_ops._modules, values, strict=True)
        }
        return prices.expected(keep_probabilities(model.choices, weights)) / 100

    values = [alpha.detach().clone().requires_grad_() for alpha in alphas]
    assert torch.autograd.gradcheck(cost, values, rtol=1e-6, atol=1e-8)
    own = torch.autograd.grad(expected_cost(model, prices) / 100, alphas)
    for one, other in zip(own, torch.autograd.grad(cost(*values), values), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_stronger_edge_is_kept_more_often():
    edges = ("e0", "e1", "e2")
    choices = {edge: LayerChoice(edge, ("none", "op"), search_only=("none",)) for edge in edges}
    choices["node"] = InputChoice("node", ("0", "1", "2"), num_chosen=2, edges=edges)
    weights = {edge: torch.tensor([1 - s, s]) for edge, s in zip(edges, (0.6, 0.3, 0.1), strict=True)}
    kept = [float(keep_probabilities(choices, weights)[edge][1]) for edge in edges]
    pairs = {(0, 1): 0.18, (0, 2): 0.06, (1, 2): 0.03}
    expected = [sum(w for pair, w in pairs.items() if i in pair) / 0.27 for i in range(3)]
    assert kept == pytest.approx(expected, rel=1e-6)


def test_an_input_that_is_weighed_beside_its_edge_is_kept_by_the_product():
    strengths, own = (0.6, 0.3, 0.1), (0.2, 0.3, 0.5)
    edges = ("e0", "e1", "e2")
    choices = {edge: LayerChoice(edge, ("none", "op"), search_only=("none",)) for edge in edges}
    choices["node"] = InputChoice("node", ("0", "1", "2"), num_chosen=2, edges=edges, weighed=True)
    weights = {edge: torch.tensor([1 - s, s]).double() for edge, s in zip(edges, strengths, strict=True)}
    found = keep_probabilities(choices, {**weights, "node": torch.tensor(own).double()})
    t = [strength * weight for strength, weight in zip(strengths, own, strict=True)]
    pairs = {pair: t[pair[0]] * t[pair[1]] for pair in itertools.combinations(range(3), 2)}
    expected = [sum(w for pair, w in pairs.items() if i in pair) / sum(pairs.values()) for i in range(3)]
    assert found["node"].tolist() == pytest.approx(expected, rel=1e-7)
    assert [float(found[edge][1]) for edge in edges] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("num_chosen", [1, 2, 3, 4])
def test_a_choice_that_keeps_several_keeps_each_as_often_as_in_all_subsets(num_chosen):
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    choice = LayerChoice("one", tuple("abcd"), num_chosen)
    (found,) = keep_probabilities({"one": choice}, {"one": p}).values()
    subsets = list(itertools.combinations(range(4), num_chosen))
    weights = [prod(p[list(subset)].tolist()) for subset in subsets]
    for k in range(4):
        share = sum(w for s, w in zip(subsets, weights, strict=True) if k in s) / sum(weights)
        assert float(found[k]) == pytest.approx(share, rel=1e-12)


def test_weights_that_vanish_leave_probabilities_that_are_defined():
    edges = ("e0", "e1", "e2", "e3")
    choices = {edge: LayerChoice(edge, ("none", "op", "other"), search_only=("none",)) for edge in edges}
    choices["node"] = InputChoice("node", tuple("0123"), num_chosen=3, edges=edges)
    alphas = {edge: torch.tensor([200.0, 0.0, 0.0], requires_grad=True) for edge in edges}
    kept = keep_probabilities(choices, {edge: alpha.softmax(0) for edge, alpha in alphas.items()})
    for edge in edges:
        assert kept[edge].tolist() == pytest.approx([0, 3 / 8, 3 / 8])
    for gradient in torch.autograd.grad(kept["e0"][1], list(alphas.values())):
        assert gradient.isfinite().all()
