"""What is reached without having learned anything."""

import math

import pytest
import torch

from nasframe.core import Subset, TensorSplit
from nasframe.core.chance import constant_figures, is_by_chance
from nasframe.core.dataset import CheckedSplit
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.objectives.mean_squared_error import MeanSquaredError


def _split(targets):
    return TensorSplit(torch.zeros(len(targets), 2), torch.tensor(targets))


def test_the_best_constant_of_classes_is_how_frequent_they_are():
    # three fifths, two fifths and none of three classes; the sixth example is left out
    split = CheckedSplit(_split([0, 1, 0, 1, 0, 2]), "train", 3)
    found = constant_figures(CrossEntropy(), Subset(split, torch.arange(5)), 3)
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["loss"] == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)))


def test_the_best_constant_of_numbers_is_their_mean():
    found = constant_figures(MeanSquaredError(), _split([[1.0], [3.0], [8.0]]), 1)
    assert found["loss"] == pytest.approx((9 + 1 + 16) / 3)  # around 4
    assert found["mean_absolute_error"] == pytest.approx((3 + 1 + 4) / 3)


def test_targets_that_would_have_to_be_read_are_taken_for_equally_frequent_classes():
    assert constant_figures(CrossEntropy(), _Files(), 4) == {"accuracy": 0.25}


class _Files:
    def __len__(self):
        return 8

    def batch(self, indices):
        raise AssertionError("nothing is read")


@pytest.mark.parametrize(
    ("right", "count", "chance", "expected"),
    [
        (2, 3, 0.1, True),  # p = 0.028
        (4, 4, 0.1, False),  # p = 0.0001
        (10, 10, 0.5, False),  # p = 1/1024
        (9, 10, 0.5, True),  # p = 11/1024
        (0, 10, 0.5, True),
        (2500, 25000, 0.1, True),
        (2640, 25000, 0.1, True),  # 2.95 deviations above: p = 0.0016 by the normal distribution
        (2660, 25000, 0.1, False),  # 3.37 deviations above: p = 0.0004
        (5, 5, 1.0, True),
        (1, 5, 0.0, False),
    ],
)
def test_chance_is_told_by_a_binomial_test(right, count, chance, expected):
    assert is_by_chance(right / count, count, chance) is expected
