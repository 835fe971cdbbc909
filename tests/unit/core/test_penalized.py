"""The expected cost as part of what alphas minimize, in every algorithm."""

import math

import pytest
import torch
from torch import nn

from nasframe.core import (
    Batch,
    Constrained,
    LayerChoice,
    Objective,
    Penalized,
    Space,
    Task,
    WeightUpdate,
    algorithms,
    cost_scale,
    costs,
    expected_cost,
    objectives,
    optimizers,
    penalties,
    price,
    supernet,
    with_penalty,
)

TASK = Task((4,), 3)
WIDTHS = {"narrow": 1, "medium": 4, "wide": 16}


class Chain(Space):
    """Two choices between blocks of three widths, and a classifier."""

    def build(self, filler):
        choices = [LayerChoice(name, tuple(WIDTHS)) for name in ("one", "two")]
        return nn.Sequential(*(filler.layer(choice, self._block) for choice in choices), nn.Linear(4, 3))

    def _block(self, name):
        return nn.Sequential(nn.Linear(4, WIDTHS[name]), nn.Tanh(), nn.Linear(WIDTHS[name], 4))


COSTS = [2 * 4 * width for width in WIDTHS.values()]  # multiply-adds of a candidate
AVERAGE = 2 * sum(COSTS) / 3 + 4 * 3


def _penalized(objective, model, cost_name, weight):
    prices = price(Chain(), TASK, costs[cost_name]())
    penalty = penalties["linear"](cost_scale(model.choices, prices, {}), weight=weight)
    return Penalized(objective, model, prices, penalty)


def _value(objective, loss=1.5):
    return objective.penalty(torch.tensor(loss, dtype=torch.float64)).item()


def _search(mixed_op, weight):
    torch.manual_seed(0)
    model = supernet(Chain(), mixed_op).double()
    objective = objectives["cross_entropy"]()
    if weight is not None:
        objective = _penalized(objective, model, "flops", weight)
    update = WeightUpdate(model, objective, torch.optim.SGD(list(model.parameters_at("lower")), lr=0.1))
    return model, objective, update


def _batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(8, 4, dtype=torch.float64, generator=generator), torch.arange(8) % 3)


def test_penalty_is_the_weighted_cost_over_that_of_the_average_network():
    model, objective, _ = _search("softmax", weight=0.3)
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.zero_()
    assert _value(objective) == pytest.approx(0.3, rel=1e-12)
    with torch.no_grad():
        model.mixed_ops["one"].alpha.copy_(torch.tensor([1000.0, 0.0, 0.0]))
    expected = 0.3 * (COSTS[0] + sum(COSTS) / 3 + 12) / AVERAGE
    assert _value(objective) == pytest.approx(expected, rel=1e-12)


def test_loss_and_metrics_are_those_of_the_objective():
    _, objective, _ = _search("softmax", weight=5.0)
    outputs, targets, plain = torch.randn(6, 3), torch.arange(6) % 3, objectives["cross_entropy"]()
    assert torch.equal(objective.loss(outputs, targets), plain.loss(outputs, targets))
    assert objective.metrics(outputs, targets) == plain.metrics(outputs, targets)


def test_penalties_add_up():
    model, objective, _ = _search("softmax", weight=0.3)
    both = _penalized(objective, model, "parameters", 0.2)
    alone = _penalized(objectives["cross_entropy"](), model, "parameters", 0.2)
    assert _value(both) == pytest.approx(_value(objective) + _value(alone), rel=1e-12)


def test_an_objective_without_penalty_leaves_gradients_as_they_are():
    alpha = torch.zeros(2, requires_grad=True)
    gradient = torch.ones(2)
    objective, loss = objectives["cross_entropy"](), torch.tensor(1.0)
    assert with_penalty(objective, [alpha, alpha], [gradient, None], loss) == [gradient, None]


def test_gradients_of_loss_and_penalty_add_up_where_either_is_there():
    class Squares(Objective):
        def loss(self, outputs, targets): ...

        def metrics(self, outputs, targets): ...

        def penalty(self, loss):
            return one.square().sum() + two.square().sum()

    one, two, three = (torch.tensor([value], requires_grad=True) for value in (1.0, 2.0, 3.0))
    five = torch.tensor([5.0])
    loss = torch.tensor(7.0)
    assert with_penalty(Squares(), [one, two, three], [five, None, five], loss) == [5 + 2 * 1, 2 * 2, 5]


def test_the_gradient_of_a_penalty_that_scales_the_loss_is_that_of_their_product():
    class Scaled(Objective):
        def loss(self, outputs, targets): ...

        def metrics(self, outputs, targets): ...

        def penalty(self, loss):
            return loss * one.square().sum() - loss

    one, two = (torch.tensor([value], requires_grad=True) for value in (3.0, 2.0))
    gradients = [torch.tensor([5.0]), torch.tensor([4.0])]
    # of loss a², a = 3, where the loss is 7 and its gradients 5 and 4
    assert with_penalty(Scaled(), [one, two], gradients, torch.tensor(7.0)) == [5 * 9 + 7 * 2 * 3, 4 * 9]


@pytest.mark.parametrize("settings", [{}, {"order": 2}, {"order": 2, "hessian": "exact"}], ids=str)
def test_the_gradient_of_darts_is_that_of_the_loss_plus_that_of_the_penalty(settings):
    found = {}
    for weight in (None, 0.7):
        model, objective, update = _search("softmax", weight)
        algorithm = algorithms["darts_bilevel"](model, objective, **settings)
        found[weight] = algorithm.upper_gradients(_batch(1), _batch(2), update)
    c = torch.tensor(COSTS, dtype=torch.float64)
    for op, plain, penalized in zip(model.mixed_ops.values(), found[None], found[0.7], strict=True):
        p = op.weights().detach()
        torch.testing.assert_close(penalized - plain, 0.7 / AVERAGE * p * (c - p @ c), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("update_name", ["all_paths", "two_paths", "reinforce"])
def test_a_step_of_proxyless_moves_by_the_gradient_of_the_penalty_too(update_name):
    moved = {}
    for weight in (None, 0.7):
        model, objective, update = _search("binary_gate", weight)
        algorithm = algorithms["proxyless"](
            model,
            objective,
            update=update_name,
            alpha_optimizer=optimizers.component("sgd", lr=1.0, momentum=0.0),
        )
        before = {name: op.alpha.detach().clone() for name, op in model.mixed_ops.items()}
        algorithm.step(_batch(1), _batch(2), update)
        moved[weight] = {name: op.alpha.detach() - before[name] for name, op in model.mixed_ops.items()}
    c = torch.tensor(COSTS, dtype=torch.float64)
    for name, op in model.mixed_ops.items():
        p = torch.softmax(before[name], 0)
        expected = -0.7 / AVERAGE * p * (c - p @ c)
        difference = moved[0.7][name] - moved[None][name]
        if (
            update_name == "two_paths"
        ):  # the shift moves the two by one amount; what stands between them stays
            first, second = op.paths
            difference, expected = difference[first] - difference[second], expected[first] - expected[second]
        torch.testing.assert_close(difference, expected, rtol=1e-8, atol=1e-10)


SEARCHES = [
    ("darts_bilevel", "softmax", {}),
    ("darts_bilevel", "softmax", {"order": 2, "hessian": "exact"}),
    ("proxyless", "binary_gate", {"update": "all_paths"}),
    ("proxyless", "binary_gate", {"update": "reinforce", "reward": "loss"}),
]


@pytest.mark.parametrize(("name", "mixed_op", "settings"), SEARCHES, ids=str)
def test_a_penalty_that_multiplies_scales_the_gradient_of_the_loss_and_adds_its_own(name, mixed_op, settings):
    """∇(0.2 L r) = 0.2 (r ∇L + L ∇r) with r = (log E / log 80)^0.3, in each algorithm."""
    moved, losses = {}, {}
    for penalized in (False, True):
        model, objective, update = _search(mixed_op, None)
        if penalized:
            prices = price(Chain(), TASK, costs["flops"]())
            penalty = penalties["mul_log"](cost_scale(model.choices, prices, {}), reference=80.0)
            objective = Penalized(objective, model, prices, penalty)
        algorithm = algorithms[name](
            model,
            objective,
            alpha_optimizer=optimizers.component("sgd", lr=1.0, momentum=0.0, weight_decay=0.0),
            **settings,
        )
        before = {name: op.alpha.detach().clone() for name, op in model.mixed_ops.items()}
        metrics = algorithm.step(_batch(1), _batch(2), update)
        moved[penalized] = {name: before[name] - op.alpha.detach() for name, op in model.mixed_ops.items()}
        losses[penalized] = float(metrics["alpha_loss"])
    assert losses[True] == losses[False]
    c = torch.tensor(COSTS, dtype=torch.float64)
    p = {name: torch.softmax(alpha, 0) for name, alpha in before.items()}
    cost = sum(float(weights @ c) for weights in p.values()) + 4 * 3
    ratio = math.log(cost) / math.log(80)
    for name, weights in p.items():
        slope = 0.3 * ratio ** (0.3 - 1) / (cost * math.log(80)) * weights * (c - weights @ c)
        expected = 0.2 * (ratio**0.3 * moved[False][name] + losses[False] * slope)
        torch.testing.assert_close(moved[True][name], expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("name", "mixed_op"), [("darts_bilevel", "softmax"), ("proxyless", "binary_gate")])
def test_a_heavy_weight_makes_each_algorithm_find_the_cheapest_network(name, mixed_op):
    model, objective, update = _search(mixed_op, weight=20.0)
    algorithm = algorithms[name](model, objective, alpha_optimizer=optimizers.component("adam", lr=0.1))
    prices = price(Chain(), TASK, costs["flops"]())
    start = expected_cost(model, prices).item()
    for step in range(60):
        algorithm.step(_batch(step), _batch(100 + step), update)
    assert expected_cost(model, prices).item() < 0.5 * start
    assert [int(weights.argmax()) for weights in model.choice_weights().values()] == [0, 0]


@pytest.mark.parametrize(
    ("settings", "takes"),
    [({"order": 1}, False), ({"order": 2}, True), ({"order": 2, "hessian": "exact"}, False)],
)
def test_a_penalized_algorithm_takes_differences_where_it_does_by_itself(settings, takes):
    model = supernet(Chain(), "softmax")
    objective = objectives["cross_entropy"]()
    algorithm = algorithms["darts_bilevel"](model, objective, **settings)
    prices = price(Chain(), TASK, costs["flops"]())
    penalty = penalties["linear"](cost_scale(model.choices, prices, {}))
    assert algorithm.takes_differences is takes
    assert Constrained(algorithm, model, prices, penalty).takes_differences is takes
