"""Confusion matrices: which class is answered for which."""

import numpy as np
import torch
from torch import nn

from nasframe import Model, registries
from nasframe.recipe.confusion import MOST_CLASSES, confusion_of, counted

NAMES = ("cat", "dog", "owl")
OBJECTIVE = registries["objectives"]["cross_entropy"]()


def _logits(answers):
    return nn.functional.one_hot(torch.tensor(answers), 3).float()


def test_answers_are_counted_by_class_while_the_model_is_evaluated():
    model = Model(nn.Linear(1, 3))
    objective = counted(OBJECTIVE, model, NAMES)
    objective.metrics(_logits([0, 0]), torch.tensor([1, 1]))  # in training
    model.eval()
    objective.metrics(_logits([0, 1, 1]), torch.tensor([0, 0, 1]))
    metrics = objective.metrics(_logits([2, 0]), torch.eye(3)[[2, 2]])  # targets as shares
    assert float(metrics["accuracy"]) == 0.5
    found = confusion_of(objective, "test")["confusion/test"]
    assert found.rows == found.columns == NAMES
    assert found.texts == (("1", "1", "0"), ("0", "1", "0"), ("1", "0", "1"))
    np.testing.assert_allclose(found.values, [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]])
    assert found.title.startswith("test: 3 of 5 right")
    assert confusion_of(objective, "test") == {}


def test_a_class_without_examples_has_a_row_of_zeros():
    model = Model(nn.Linear(1, 3)).eval()
    objective = counted(OBJECTIVE, model, NAMES)
    objective.metrics(_logits([1]), torch.tensor([1]))
    assert confusion_of(objective, "valid")["confusion/valid"].values.tolist() == [
        [0] * 3,
        [0, 1, 0],
        [0] * 3,
    ]


def test_losses_and_metrics_are_those_of_the_objective_inside():
    model = Model(nn.Linear(1, 3)).eval()
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    objective = counted(OBJECTIVE, model, NAMES)
    assert torch.equal(objective.loss(logits, targets), OBJECTIVE.loss(logits, targets))
    assert objective.metrics(logits, targets) == OBJECTIVE.metrics(logits, targets)


def test_nothing_is_counted_without_classes_or_with_too_many():
    model = Model(nn.Linear(1, 3)).eval()
    for names in ((), ("a",) * (MOST_CLASSES + 1)):
        assert counted(OBJECTIVE, model, names) is OBJECTIVE
    regression = counted(registries["objectives"]["mean_squared_error"](), model, NAMES)
    regression.metrics(torch.zeros(2, 3), torch.zeros(2, 3))
    assert confusion_of(regression, "test") == {}
