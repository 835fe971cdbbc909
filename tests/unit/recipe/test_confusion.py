"""Confusion matrices: which class is answered for which."""

import numpy as np
import torch
from torch import nn

from nasframe import Model, registries
from nasframe.recipe.confusion import MOST_CLASSES, Counted, drawn_confusion, plain_confusion

NAMES = ("cat", "dog", "owl")
OBJECTIVE = registries["objectives"]["cross_entropy"]()


def _logits(answers):
    return nn.functional.one_hot(torch.tensor(answers), 3).float()


def test_answers_are_counted_by_class_while_the_model_is_evaluated():
    model = Model(nn.Linear(1, 3))
    objective = Counted(OBJECTIVE, model)
    objective.metrics(_logits([0, 0]), torch.tensor([1, 1]))  # in training
    model.eval()
    objective.metrics(_logits([0, 1, 1]), torch.tensor([0, 0, 1]))
    metrics = objective.metrics(_logits([2, 0]), torch.eye(3)[[2, 2]])  # targets as shares
    assert float(metrics["accuracy"]) == 0.5
    found = drawn_confusion(objective.take(), NAMES, "test")["confusion/test"]
    assert found.rows == found.columns == NAMES
    assert found.texts == (("1", "1", "0"), ("0", "1", "0"), ("1", "0", "1"))
    np.testing.assert_allclose(found.values, [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]])
    assert found.title.startswith("test: 3 of 5 right")
    assert objective.take() is None


def test_a_class_without_examples_has_a_row_of_zeros():
    model = Model(nn.Linear(1, 3)).eval()
    objective = Counted(OBJECTIVE, model)
    objective.metrics(_logits([1]), torch.tensor([1]))
    assert drawn_confusion(objective.take(), NAMES, "valid")["confusion/valid"].values.tolist() == [
        [0] * 3,
        [0, 1, 0],
        [0] * 3,
    ]


def test_losses_and_metrics_are_those_of_the_objective_inside():
    model = Model(nn.Linear(1, 3)).eval()
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    objective = Counted(OBJECTIVE, model)
    assert torch.equal(objective.loss(logits, targets), OBJECTIVE.loss(logits, targets))
    assert objective.metrics(logits, targets) == OBJECTIVE.metrics(logits, targets)


def test_nothing_is_drawn_without_classes_or_with_too_many():
    model = Model(nn.Linear(1, 3)).eval()
    regression = Counted(registries["objectives"]["mean_squared_error"](), model)
    regression.metrics(torch.zeros(2, 3), torch.zeros(2, 3))
    assert regression.take() is None
    assert drawn_confusion(None, NAMES, "test") == {}
    assert drawn_confusion(torch.eye(3, dtype=torch.long), (), "test") == {}
    many = MOST_CLASSES + 1
    assert drawn_confusion(torch.eye(many, dtype=torch.long), ("a",) * many, "test") == {}


def test_as_plain_data_it_has_names_and_counts_where_there_are_classes():
    counts_KK = torch.tensor([[2, 1], [0, 3]])
    plain = {"classes": ["cat", "dog"], "counts": [[2, 1], [0, 3]]}
    assert plain_confusion(counts_KK, ("cat", "dog")) == plain
    assert plain_confusion(counts_KK, ()) == plain_confusion(None, ("cat", "dog")) == {}
