"""The rule of DARTS under a budget, against all architectures of a space and the networks they are."""

import itertools
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasframe.core import Genotype, Task, costs, derived, most_likely, price, spaces, supernet
from nasframe.derivers.darts import DartsRule
from nasframe.errors import TrainingError, UnsupportedError

OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
TASK = Task((1, 8, 8), 3)
NODES = (2, 3)
SPACE = spaces["darts"](TASK, channels=2, cells=3, nodes=len(NODES), stem_multiplier=1, operations=OPERATIONS)


@cache
def _one_supernet():
    return supernet(SPACE)


@cache
def _prices(cost):
    return price(SPACE, TASK, costs[cost]())


def _supernet(seed):
    model = _one_supernet()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for op in model.mixed_ops.values():
            op.alpha.copy_(torch.randn(op.alpha.shape, generator=generator))
            op.alpha[3] += 1.0  # what is dear is likely
    return model


@cache
def _cells(cell):
    """Each way to derive a cell: the kept inputs of its nodes, and the operations of these edges."""
    of_nodes = [
        [
            {f"{cell}_{node}": tuple(map(str, pair))}
            | {f"{cell}_{node}_{state}": (name,) for state, name in zip(pair, names, strict=True)}
            for pair in itertools.combinations(range(node), 2)
            for names in itertools.product(OPERATIONS[1:], repeat=2)
        ]
        for node in NODES
    ]
    return [first | second for first, second in itertools.product(*of_nodes)]


def _best(p, prices, max_cost):
    """The largest log-likelihood within the budget, over all pairs of cells."""
    cells = []
    for cell in ("normal", "reduce"):
        rows = [
            (
                prices.of(Genotype(kept)) - prices.fixed,
                sum(
                    math.log(p[edge][OPERATIONS.index(names[0])]) for edge, names in kept.items() if edge in p
                ),
            )
            for kept in _cells(cell)
        ]
        cells.append(torch.tensor(rows, dtype=torch.float64))
    cost = prices.fixed + cells[0][:, :1] + cells[1][:, 0]
    score = cells[0][:, 1:] + cells[1][:, 1]
    return float(score[cost <= max_cost].max()), cost


def _log_likelihood(genotype, p):
    return sum(
        math.log(p[edge][OPERATIONS.index(name)])
        for edge, names in genotype.choices.items()
        if edge in p
        for name in names
    )


@pytest.mark.parametrize("cost", ["parameters", "flops"])
@pytest.mark.parametrize("seed", range(2))
def test_it_is_the_most_likely_of_all_59049_architectures_and_its_network_keeps_the_budget(cost, seed):
    model, prices = _supernet(seed), _prices(cost)
    p = {name: weights.tolist() for name, weights in model.choice_weights().items()}
    _, every_cost = _best(p, prices, math.inf)
    assert every_cost.numel() == (9 * 27) ** 2
    for share in (0.0, 0.1, 0.3, 0.6):
        max_cost = float(every_cost.min() + share * (every_cost.max() - every_cost.min()))
        found = DartsRule().derive_within(model, prices, max_cost)
        assert _log_likelihood(found, p) == pytest.approx(_best(p, prices, max_cost)[0], abs=1e-9)
        with torch.device("meta"):
            assert costs[cost]().of(derived(SPACE, found), TASK) == prices.of(found) <= max_cost


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), room=st.floats(0, 0.5))
def test_where_the_budget_does_not_bind_it_is_the_rule(seed, room):
    model, prices = _supernet(seed), _prices("parameters")
    rule = DartsRule().derive(model)
    assert DartsRule().derive_within(model, prices, prices.of(rule) * (1 + room)) == rule
    weights = {name: value.tolist() for name, value in model.choice_weights().items()}
    assert most_likely(model.choices, weights, prices, math.inf) == rule


def test_it_draws_nothing_and_changes_nothing():
    model, prices = _supernet(0), _prices("parameters")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    max_cost = 0.9 * prices.of(DartsRule().derive(model))
    found = DartsRule().derive_within(model, prices, max_cost)
    assert all(DartsRule().derive_within(model, prices, max_cost) == found for _ in range(3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_where_no_architecture_keeps_the_budget_the_cheapest_is_told():
    model, prices = _supernet(0), _prices("parameters")
    p = {name: weights.tolist() for name, weights in model.choice_weights().items()}
    least = float(_best(p, prices, math.inf)[1].min())
    with pytest.raises(UnsupportedError, match=f"the cheapest costs {least:g};"):
        DartsRule().derive_within(model, prices, least - 1)


def test_weights_that_are_not_finite_are_a_training_error():
    model, prices = _supernet(0), _prices("parameters")
    with torch.no_grad():
        model.mixed_ops["normal_2_0"].alpha[1] = math.nan
    with pytest.raises(TrainingError, match="must be finite"):
        DartsRule().derive_within(model, prices, 1e9)


@pytest.mark.parametrize("seed", range(3))
def test_networks_of_the_macro_space_keep_the_budget_that_they_were_derived_for(seed):
    space = spaces["macro"](TASK, channels=2, stages=(2, 3, 3), features=8)
    prices = price(space, TASK, costs["parameters"]())
    torch.manual_seed(seed)
    model = supernet(space)
    with torch.no_grad():
        for op in model.mixed_ops.values():
            op.alpha.copy_(torch.randn(3) + torch.tensor([0.0, 1.0, 2.0]))
    log_p = torch.stack([weights.double().log() for weights in model.choice_weights().values()])
    digits = torch.cartesian_prod(*[torch.arange(3)] * 8)
    table = torch.tensor([[each.fixed for each in row.values()] for row in prices.choices.values()]).double()
    every_cost = prices.fixed + table.gather(1, digits.T).sum(0)
    every_log = log_p.gather(1, digits.T).sum(0)
    for max_cost in torch.linspace(float(every_cost.min()), float(every_cost.max()), 8).tolist():
        found = DartsRule().derive_within(model, prices, max_cost)
        index = [int(digit) for digit in space.key(found)]
        best = float(every_log[every_cost <= max_cost].max())
        assert float(log_p[range(8), index].sum()) == pytest.approx(best, abs=1e-9)
        with torch.device("meta"):
            assert costs["parameters"]().of(derived(space, found), TASK) == prices.of(found) <= max_cost
