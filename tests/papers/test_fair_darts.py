"""Gates, zero-one loss and threshold of FairDARTS against independent computations in float64.

Chu, Zhou, Zhang and Li, ECCV 2020 (arXiv 1911.12126).
"""

import math
import random

import pytest
import torch

import nasframe
from nasframe.core import Batch, LayerChoice, Regularized, Task, WeightUpdate, algorithms, derived, objectives
from nasframe.derivers.threshold import Threshold
from nasframe.errors import UnsupportedError
from nasframe.mixed_ops.sigmoid import Sigmoid
from nasframe.regularizers.zero_one import ZeroOne
from nasframe.spaces.darts import Darts
from nasframe.testing import example_space

X = torch.tensor([2.0, -1.0], dtype=torch.float64)


def gate(alpha):
    return 1 / (1 + math.exp(-alpha))


def test_each_candidate_is_mixed_by_the_gate_of_its_own_alpha():
    alpha = [0.3, -1.2, 0.7]
    op = Sigmoid(LayerChoice("edge", ("a", "b", "c"))).double()
    with torch.no_grad():
        op.alpha.copy_(torch.tensor(alpha))
    gates = [gate(each) for each in op.alpha.tolist()]
    y = op([lambda x, n=n: x**n for n in (1, 2, 3)], X)
    expected = [sum(g * x**n for g, n in zip(gates, (1, 2, 3), strict=True)) for x in X.tolist()]
    assert y.tolist() == pytest.approx(expected, rel=1e-12)
    y.sum().backward()
    sums = [sum(x**n for x in X.tolist()) for n in (1, 2, 3)]
    slopes = [g * (1 - g) * s for g, s in zip(gates, sums, strict=True)]  # no other gate has a say
    assert op.alpha.grad.tolist() == pytest.approx(slopes, rel=1e-12)
    assert op.weights().tolist() == pytest.approx(gates, rel=1e-12)


def _supernet(seed=0):
    torch.manual_seed(seed)
    model = nasframe.supernet(example_space(), "sigmoid").double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape))
    return model


def test_the_zero_one_loss_and_its_gradient():
    model = _supernet()
    gates = [[gate(each) for each in alpha.tolist()] for alpha in model.parameters_at("upper")]
    count = sum(map(len, gates))
    loss = ZeroOne(model, weight=10.0)(0.0)
    expected = -10 / count * sum((g - 0.5) ** 2 for row in gates for g in row)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    loss.backward()
    for alpha, row in zip(model.parameters_at("upper"), gates, strict=True):
        slopes = [-10 / count * 2 * (g - 0.5) * g * (1 - g) for g in row]
        assert alpha.grad.tolist() == pytest.approx(slopes, rel=1e-9)


def test_an_alpha_step_follows_the_sum_of_both_losses():
    model, found = _supernet(), []
    batch = Batch(torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3)
    for terms in ([], [("zero_one", ZeroOne(model))]):
        objective = Regularized(objectives["cross_entropy"](), model, terms)
        update = WeightUpdate(model, objective, torch.optim.SGD(model.parameters_at("lower"), lr=0.1))
        algorithm = algorithms["darts_bilevel"](model, objective)
        found.append(algorithm.upper_gradients(batch, batch, update))
    own = torch.autograd.grad(ZeroOne(model)(0.0), list(model.parameters_at("upper")))
    for plain, both, each in zip(*found, own, strict=True):
        torch.testing.assert_close(both - plain, each)


def test_a_softmax_has_no_gates():
    with pytest.raises(UnsupportedError, match=r"must have a mixed op with a gate from 0 to 1.*Softmax"):
        ZeroOne(nasframe.supernet(example_space()))


OPERATIONS, NODES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3"), 3
SPACE = Darts(Task((1, 8, 8), 3), channels=1, cells=3, nodes=NODES, operations=OPERATIONS)


def _paper(gates, threshold):
    """Of each node the two edges with the largest gate; of these the strongest operation, if it is open."""
    kept = {}
    for cell in ("normal", "reduce"):
        kept[f"{cell}_concat"] = ["2", "3", "4"]
        for node in range(2, 2 + NODES):
            rows = {state: gates[f"{cell}_{node}_{state}"] for state in range(node)}
            edges = sorted(rows, key=lambda state: (-max(rows[state]), state))[:2]
            open_edges = [state for state in edges if max(rows[state]) >= threshold] or edges[:1]
            kept[f"{cell}_{node}"] = [str(state) for state in open_edges]
            for state in open_edges:
                best = OPERATIONS[rows[state].index(max(rows[state]))]
                kept[f"{cell}_{node}_{state}"] = [best]
    return kept


def test_the_threshold_keeps_the_open_edges_and_never_none():
    model, generator, sizes = nasframe.supernet(SPACE, "sigmoid"), random.Random(0), set()
    for _ in range(30):
        alphas = {name: [generator.gauss(0, 2) for _ in OPERATIONS] for name, _ in model.mixed_ops.items()}
        with torch.no_grad():
            for name, op in model.mixed_ops.items():
                op.alpha.copy_(torch.tensor(alphas[name]))
        gates = {name: op.weights().tolist() for name, op in model.mixed_ops.items()}
        genotype = Threshold(threshold=0.85).derive(model)
        assert {name: list(kept) for name, kept in genotype.choices.items()} == _paper(gates, 0.85)
        sizes.update(len(genotype[f"normal_{node}"]) for node in range(2, 2 + NODES))
    assert sizes == {1, 2}
    derived(SPACE, genotype)(torch.randn(2, 1, 8, 8))
