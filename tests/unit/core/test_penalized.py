"""The expected cost as part of what alphas minimize, in every algorithm."""

import pytest
import torch
from torch import nn

from nasframe.core import (
    Batch,
    LayerChoice,
    Objective,
    Penalized,
    Space,
    Task,
    WeightUpdate,
    algorithms,
    costs,
    expected_cost,
    objectives,
    optimizers,
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


def _search(mixed_op, weight):
    torch.manual_seed(0)
    model = supernet(Chain(), mixed_op).double()
    objective = objectives["cross_entropy"]()
    if weight is not None:
        objective = Penalized(objective, model, price(Chain(), TASK, costs["flops"]()), weight=weight)
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
    assert objective.penalty().item() == pytest.approx(0.3, rel=1e-12)
    with torch.no_grad():
        model.mixed_ops["one"].alpha.copy_(torch.tensor([1000.0, 0.0, 0.0]))
    expected = 0.3 * (COSTS[0] + sum(COSTS) / 3 + 12) / AVERAGE
    assert objective.penalty().item() == pytest.approx(expected, rel=1e-12)


def test_loss_and_metrics_are_those_of_the_objective():
    _, objective, _ = _search("softmax", weight=5.0)
    outputs, targets, plain = torch.randn(6, 3), torch.arange(6) % 3, objectives["cross_entropy"]()
    assert torch.equal(objective.loss(outputs, targets), plain.loss(outputs, targets))
    assert objective.metrics(outputs, targets) == plain.metrics(outputs, targets)


def test_penalties_add_up():
    model, objective, _ = _search("softmax", weight=0.3)
    prices = price(Chain(), TASK, costs["parameters"]())
    both = Penalized(objective, model, prices, weight=0.2)
    alone = Penalized(objectives["cross_entropy"](), model, prices, weight=0.2)
    torch.testing.assert_close(both.penalty(), objective.penalty() + alone.penalty(), rtol=1e-12, atol=0)


def test_an_objective_without_penalty_leaves_gradients_as_they_are():
    alpha = torch.zeros(2, requires_grad=True)
    gradient = torch.ones(2)
    assert with_penalty(objectives["cross_entropy"](), [alpha, alpha], [gradient, None]) == [gradient, None]


def test_gradients_of_loss_and_penalty_add_up_where_either_is_there():
    class Squares(Objective):
        def loss(self, outputs, targets): ...

        def metrics(self, outputs, targets): ...

        def penalty(self):
            return one.square().sum() + two.square().sum()

    one, two, three = (torch.tensor([value], requires_grad=True) for value in (1.0, 2.0, 3.0))
    five = torch.tensor([5.0])
    assert with_penalty(Squares(), [one, two, three], [five, None, five]) == [5 + 2 * 1, 2 * 2, 5]


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
