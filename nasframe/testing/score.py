"""Scores."""

from collections.abc import Callable
from typing import Final

import torch

from nasframe.core import (
    AsGiven,
    Genotype,
    Model,
    Score,
    Space,
    Task,
    TensorSplit,
    Testbed,
    generator_for,
    objectives,
    sample,
    spaces,
    supernet,
)
from nasframe.errors import NasframeError
from nasframe.testing._verdict import fail, require, same, seeded, state_of
from nasframe.types import Metrics

_TASK: Final = Task((3, 8, 8), 3)
_SEEDS: Final = (0, 1, 2)


def example_testbed(space: Space | None = None, *, with_supernet: bool = True) -> Testbed:
    """A testbed over 16 random images of 3 x 8 x 8 in 3 classes: small, for tests.

    Args:
        space: For such images; a tiny one of `macro` unless given.
        with_supernet: Whether there is a supernet, which nobody has trained.
    """
    space = space or spaces.component("macro", channels=2, stages=(1, 2), features=4)(_TASK)
    generator, objective = generator_for(0, "example_testbed"), objectives["cross_entropy"]()
    images, labels = torch.randn(16, 3, 8, 8, generator=generator), torch.arange(16) % 3

    def evaluate(model: Model) -> Metrics:
        with torch.no_grad():
            outputs = model.eval()(images)
        return {"loss": objective.loss(outputs, labels), **objective.metrics(outputs, labels)}

    def train(model: Model, genotype: Genotype, *, budget: float = 1.0, examples: float = 1.0) -> Metrics:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(max(1, round(4 * budget))):
            optimizer.zero_grad()
            torch.autograd.backward(objective.loss(model.train()(images), labels))
            optimizer.step()
        return evaluate(model)

    return Testbed(
        space=space,
        task=_TASK,
        objective=objective,
        train=TensorSplit(images, labels),
        preprocess=AsGiven(),
        seed=0,
        device=torch.device("cpu"),
        evaluate=evaluate,
        train_network=train,
        supernet=seeded(0, supernet, space) if with_supernet else None,
    )


def check_score(factory: Callable[[Testbed], Score], testbed: Testbed | None = None) -> None:
    """Check a score: a number that depends on the architecture alone, and nothing is changed.

    Args:
        factory: Builds the score of a testbed.
        testbed: What it is tried on; an `example_testbed` unless given.

    Raises:
        ComponentError: What must be changed.
    """
    testbed = testbed or example_testbed()
    score = factory(testbed)
    where = type(score).__name__
    drawn = [sample(testbed.space, generator_for(seed, "check_score")) for seed in _SEEDS]
    before = None if testbed.supernet is None else state_of(testbed.supernet)
    numbers = [_number(where, score, genotype) for genotype in drawn]
    again = [_number(where, factory(testbed), genotype) for genotype in reversed(drawn)]
    require(
        same(numbers, again[::-1]),
        f"{where}: must be the same for the same architecture, whatever was scored before, got {numbers} and "
        f"{again[::-1]}; draw from a generator made of `testbed.seed`, and start from new weights",
    )
    require(
        testbed.supernet is None or same(before, state_of(testbed.supernet)),
        f"{where}: must leave the supernet as it is; work on a copy, such as `inherit` makes",
    )
    if score.takes_budgets:
        _number(where, score, drawn[0], 0.5)
    if not score.trains_supernet and testbed.supernet is not None:
        _check_without_supernet(where, factory, testbed, drawn[0])


def _number(where: str, score: Score, genotype: Genotype, budget: float = 1.0) -> float:
    torch.manual_seed(0)
    value = score.of(genotype, budget)
    require(
        isinstance(value, (int, float)),
        f"{where}: a score must be a number, got {value!r:.60}; return a float",
    )
    return value


def _check_without_supernet(
    where: str, factory: Callable[[Testbed], Score], testbed: Testbed, genotype: Genotype
) -> None:
    try:
        _number(where, factory(example_testbed(testbed.space, with_supernet=False)), genotype)
    except (NasframeError, AttributeError) as error:
        fail(f"{where}: needs the supernet without declaring `trains_supernet`; declare it: {error}")
