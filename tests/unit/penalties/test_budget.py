"""The budget: an augmented Lagrangian against problems whose solution and multiplier are known."""

import math

import pytest
import torch
from torch import nn

from nasframe.core import (
    Batch,
    Constrained,
    CostScale,
    LayerChoice,
    Objective,
    Penalized,
    Prices,
    WeightUpdate,
    algorithms,
    costs,
    expected_cost,
    optimizers,
    supernet,
)
from nasframe.core.space import Space
from nasframe.errors import FormatError, SettingError, UnsupportedError
from nasframe.penalties.budget import Budget

SCALE = CostScale(cheapest=0.5, average=3.0, units=costs["flops"].units)


def _minimized(penalty, loss, cost, x):
    """The minimum of what `penalty` makes of both, with the multiplier as it is: Newton's method."""

    def value(x):
        return penalty(loss(x), cost(x))

    for _ in range(2):  # the function is quadratic, but for where the penalty sets in
        gradient = torch.autograd.functional.jacobian(value, x)
        x = x - torch.linalg.solve(torch.autograd.functional.hessian(value, x), gradient)
    return x


TARGET = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
PRICE = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


def _distance(x):
    return 0.5 * (x - TARGET).square().sum()


def _cost(x):
    return PRICE @ x


@pytest.mark.parametrize("rho", [3.0, 30.0])
@pytest.mark.parametrize("max_cost", [1.0, 4.0])
def test_it_converges_to_the_constrained_optimum_and_its_multiplier(rho, max_cost):
    """min ½‖x − t‖² with c·x ≤ b has x = t − λ c / b and λ = (c·t / b − 1) b² / ‖c‖²."""
    penalty, x = Budget(SCALE, max=max_cost, rho=rho, rate=1.0), TARGET.clone()
    for _ in range(50):
        x = _minimized(penalty, _distance, _cost, x)
        penalty.update(_cost(x).item())
    multiplier = penalty.figures()["budget_multiplier"]
    analytic = (float(_cost(TARGET)) / max_cost - 1) * max_cost**2 / float(PRICE.square().sum())
    assert multiplier == pytest.approx(analytic, rel=1e-8)
    # the conditions of Karush, Kuhn and Tucker
    stationary = (x - TARGET) + multiplier * PRICE / max_cost
    assert stationary.abs().max() < 1e-8
    assert float(_cost(x)) <= max_cost * (1 + 1e-8)
    assert multiplier >= 0
    assert abs(multiplier * (float(_cost(x)) / max_cost - 1)) < 1e-8


def test_a_budget_that_does_not_bind_changes_nothing_in_the_end():
    penalty = Budget(SCALE, max=2 * float(_cost(TARGET)), rho=1.0, rate=1.0)
    penalty.load_state_dict({"multiplier": 5.0})
    x = TARGET.clone()
    for _ in range(50):
        x = _minimized(penalty, _distance, _cost, x)
        penalty.update(_cost(x).item())
    assert penalty.figures()["budget_multiplier"] == 0
    torch.testing.assert_close(x, TARGET, rtol=0, atol=1e-8)


def test_the_penalty_is_the_formula_and_smooth_where_it_sets_in():
    penalty = Budget(SCALE, max=2.0, rho=4.0)
    penalty.load_state_dict({"multiplier": 0.5})
    loss = torch.tensor(1.5, dtype=torch.float64)
    for cost in (1.0, 1.75, 2.0, 3.0):
        x = torch.tensor(cost, dtype=torch.float64, requires_grad=True)
        g = cost / 2 - 1
        value = penalty(loss, x)
        assert value.item() == pytest.approx(1.5 + (max(0, 0.5 + 4 * g) ** 2 - 0.25) / 8, rel=1e-12)
        (slope,) = torch.autograd.grad(value, x)
        assert slope.item() == pytest.approx(max(0, 0.5 + 4 * g) / 2, abs=1e-12)


def test_a_step_of_the_multiplier_goes_the_share_that_rate_says():
    penalty = Budget(SCALE, max=2.0, rho=4.0, rate=0.25)
    penalty.update(3.0)  # λ + ρ g = 0 + 4 × 0.5
    assert penalty.figures()["budget_multiplier"] == pytest.approx(0.5, rel=1e-12)
    penalty.update(1.0)  # max(0, 0.5 − 2) = 0
    assert penalty.figures()["budget_multiplier"] == pytest.approx(0.375, rel=1e-12)


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full((len(x), 1), self.value, dtype=torch.float64)


class Pair(Space):
    """A cheap candidate with a large loss, and a dear one with a small loss."""

    losses = (2.0, 1.0)

    def build(self, filler):
        choice = LayerChoice("one", ("cheap", "dear"))
        candidates = dict(zip(choice.candidates, map(Constant, self.losses), strict=True))
        return nn.Sequential(filler.layer(choice, candidates.__getitem__), nn.Linear(1, 1))


class MeanOutput(Objective):
    def loss(self, outputs, targets):
        return outputs.mean()

    def metrics(self, outputs, targets):
        return {}


PAIR_PRICES = Prices(1.0, {"one": {"cheap": Prices(1.0), "dear": Prices(9.0)}})


def _pair_search(name, mixed_op, penalty, lr=0.5, **settings):
    torch.manual_seed(0)
    model = supernet(Pair(), mixed_op).double()
    with torch.no_grad():
        model.network[1].weight.fill_(1.0)
        model.network[1].bias.zero_()
    objective = Penalized(MeanOutput(), model, PAIR_PRICES, penalty)
    update = WeightUpdate(model, objective, torch.optim.SGD(model.parameters_at("lower"), lr=0.0))
    alpha_optimizer = optimizers.component("sgd", lr=lr, momentum=0.0, weight_decay=0.0)
    algorithm = algorithms[name](model, objective, alpha_optimizer=alpha_optimizer, **settings)
    return model, Constrained(algorithm, model, PAIR_PRICES, penalty), update


SEARCHES = [
    ("darts_bilevel", "softmax", {}),
    ("darts_bilevel", "softmax", {"order": 2}),
    ("proxyless", "binary_gate", {"update": "all_paths"}),
    ("proxyless", "binary_gate", {"update": "two_paths"}),
    ("proxyless", "binary_gate", {"update": "reinforce", "reward": "loss", "num_samples": 5}),
]


@pytest.mark.parametrize(("name", "mixed_op", "settings"), SEARCHES, ids=str)
def test_every_algorithm_ends_at_the_budget_with_the_analytic_multiplier(name, mixed_op, settings):
    """p of the dear one: cost 2 + 8 p ≤ 5, so p = 3/8; 1 = λ × 8 / 5 makes λ = 5/8."""
    penalty = Budget(SCALE, max=5.0, rho=2.0, rate=0.2)
    model, algorithm, update = _pair_search(name, mixed_op, penalty, lr=1.0, **settings)
    batch = Batch(torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2))
    expected, multipliers = [], []
    for _ in range(150):
        algorithm.step(batch, batch, update)
        expected.append(expected_cost(model, PAIR_PRICES).item())
        multipliers.append(penalty.figures()["budget_multiplier"])
    if settings.get("update") == "reinforce":  # its gradient is right on average alone
        assert sum(expected[50:]) / 100 == pytest.approx(5.0, rel=0.05)
        assert sum(multipliers[50:]) / 100 == pytest.approx(5 / 8, rel=0.2)
    else:
        assert expected[-1] == pytest.approx(5.0, rel=1e-4)
        assert multipliers[-1] == pytest.approx(5 / 8, rel=1e-4)


def test_the_multiplier_stays_while_alphas_do():
    penalty = Budget(SCALE, max=2.5)
    _, algorithm, update = _pair_search(
        "proxyless", "binary_gate", penalty, lr=0.01, update="all_paths", warmup_epochs=1, alpha_every=2
    )
    batch = Batch(torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2))
    seen = []
    for epoch in range(2):
        algorithm.begin_epoch(epoch, 2)
        for _ in range(4):
            algorithm.step(batch, batch, update)
            seen.append(penalty.figures()["budget_multiplier"])
    assert seen[:5] == [0.0] * 5
    assert 0 < seen[5] == seen[6] < seen[7]


def test_the_multiplier_is_saved_with_the_algorithm():
    batch = Batch(torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2))
    penalty = Budget(SCALE, max=5.0)
    _, algorithm, update = _pair_search("darts_bilevel", "softmax", penalty)
    for _ in range(3):
        algorithm.step(batch, batch, update)
    other = Budget(SCALE, max=5.0)
    _, resumed, _ = _pair_search("darts_bilevel", "softmax", other)
    resumed.load_state_dict(algorithm.state_dict())
    assert other.figures() == penalty.figures()
    assert other.figures()["budget_multiplier"] > 0


@pytest.mark.parametrize("amount", ["60 M", "60M", "0.06 G", "60000 k", "6e7", 6e7, "60e6"])
def test_an_amount_may_have_a_unit_of_the_cost(amount):
    assert Budget(SCALE, max=amount).max_cost == pytest.approx(6e7, rel=1e-15)


@pytest.mark.parametrize(
    ("amount", "expected"), [("12 ms", 12.0), ("0.5 s", 500.0), ("800 us", 0.8), (7, 7.0), ("1.5", 1.5)]
)
def test_a_latency_is_in_milliseconds(amount, expected):
    scale = CostScale(0.1, 1.0, costs["latency"].units)
    assert Budget(scale, max=amount).max_cost == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("amount", ["12 ms", "60 m", "M", "", "-5 M", "0", "1..5", "nan", "1 M M"])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(FormatError, match="positive number, alone or with one of the units k, M, G"):
        Budget(SCALE, max=amount)


@pytest.mark.parametrize("amount", [0, -1.0, math.inf, math.nan])
def test_what_is_no_positive_number_is_refused(amount):
    with pytest.raises(SettingError, match="max must be a positive float or text"):
        Budget(SCALE, max=amount)


def test_a_budget_below_the_cheapest_architecture_is_refused_before_the_search():
    with pytest.raises(UnsupportedError, match=r"at least 0\.5, what the cheapest .* costs, got 0\.4"):
        Budget(SCALE, max=0.4)
    in_time = CostScale(cheapest=0.5, average=3.0, units=costs["latency"].units)
    with pytest.raises(UnsupportedError, match=r"at least 0\.5 ms, what the cheapest .* costs, got 0\.4 ms"):
        Budget(in_time, max="400 us")
