"""What is reached without having learned anything."""

import math
from typing import Final

import torch

from nasframe.core.dataset import Split, known_targets
from nasframe.core.objective import Objective

_ERROR: Final = 1e-3  # how often luck alone is taken for more


def constant_figures(objective: Objective, split: Split, num_outputs: int) -> dict[str, float]:
    """Loss and metrics of the best answer that is the same for all examples of a split.

    Where targets would have to be read from files, the accuracy of one of `num_outputs` classes that are
    equally frequent, and no loss; empty where the objective knows no such answer.
    """
    targets = known_targets(split)
    outputs = None if targets is None else objective.constant_outputs(targets)
    if outputs is None:
        return {"accuracy": 1 / num_outputs} if targets is None else {}
    with torch.no_grad():
        found = {"loss": objective.loss(outputs, targets), **objective.metrics(outputs, targets)}
    return {name: float(value) for name, value in found.items()}


def is_by_chance(accuracy: float, count: int, chance: float, tries: int = 1) -> bool:
    """Whether luck explains so many right answers, or fewer: a one-sided binomial test.

    Args:
        accuracy: The share of them.
        count: How many answers there are.
        chance: The probability that one of them is right by luck.
        tries: Of how many the accuracy is the best (Bonferroni).
    """
    right = round(accuracy * count)
    if right <= chance * count:
        return True
    if chance <= 0:
        return False
    ways = math.lgamma(count + 1) - math.lgamma(right + 1) - math.lgamma(count - right + 1)
    term = math.exp(ways + right * math.log(chance) + (count - right) * math.log1p(-chance))
    total = 0.0
    for number in range(right, count + 1):
        total += term
        term *= (count - number) / (number + 1) * chance / (1 - chance)
    return total > _ERROR / tries
