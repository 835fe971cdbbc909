"""What stands around an objective is that objective, but for what it defines itself."""

import inspect

import torch

from nasframe.core import AroundObjective, Objective
from nasframe.objectives.cross_entropy import CrossEntropy


class Plain(AroundObjective):
    """Defines nothing itself."""


def test_an_objective_around_another_hands_on_all_that_an_objective_has():
    methods = {name for name, _ in inspect.getmembers(Objective, inspect.isfunction)}
    assert methods <= vars(AroundObjective).keys()


def test_an_objective_around_another_gives_what_the_one_inside_gives():
    inside = CrossEntropy(label_smoothing=0.1)
    around = Plain(inside)
    logits_BK, targets_B = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 1])
    assert torch.equal(around.loss(logits_BK, targets_B), inside.loss(logits_BK, targets_B))
    assert around.metrics(logits_BK, targets_B) == inside.metrics(logits_BK, targets_B)
    assert torch.equal(around.probabilities(logits_BK), logits_BK.softmax(1))
    assert torch.equal(around.constant_outputs(targets_B), inside.constant_outputs(targets_B))
    assert around.penalty(torch.tensor(1.0)) is None
