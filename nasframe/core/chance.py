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
    if chance >= 1 or right <= chance * count:
        return True
    logs = math.log(chance), math.log1p(-chance)
    chances = (
        math.exp(math.log(math.comb(count, number)) + number * logs[0] + (count - number) * logs[1])
        for number in range(right, count + 1)
    )
    total, most = 0.0, _ERROR / tries
    for each in chances:
        total += each
        if total > most or each < 1e-12 * most:
            break
    return total > most
