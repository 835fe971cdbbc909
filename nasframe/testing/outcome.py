"""Trackers, exporters and costs."""

import math
from collections.abc import Callable
from pathlib import Path

import torch

from nasframe.core import Cost, Exporter, Graph, Model, Record, Task, Tracker, derived, generator_for, sample
from nasframe.testing._example import NUM_CLASSES, NUM_INPUTS, example_space
from nasframe.testing._verdict import require, same, state_of


def check_tracker(factory: Callable[[Path, int], Tracker], directory: Path) -> None:
    """Check a tracker: it writes below its directory, and can be opened again after an interruption.

    Args:
        factory: Builds the tracker of (directory, start).
        directory: Empty; for its files.

    Raises:
        ComponentError: What must be changed.
    """
    graph = Graph("cell", ("in", "out"), (("in", "out", "skip_connect"),))
    for start in (1, 2):
        tracker = factory(directory / "run", start)
        where = type(tracker).__name__
        for step in (start, start + 1):
            tracker.log(
                Record(
                    step,
                    {"search/train_loss": 1.0 / step},
                    {"alphas/edge": torch.rand(3)},
                    {"genotype/cell": graph},
                )
            )
        tracker.close()
    written = [path for path in directory.rglob("*") if path.is_file()]
    require(
        all((directory / "run") in path.parents for path in written),
        f"{where}: must write below the directory that it is given, got {[str(path) for path in written]}",
    )


def check_exporter(factory: Callable[[], Exporter], folder: Path) -> None:
    """Check an exporter: the file exists where it says, and the model is as it was.

    Args:
        factory: Builds the exporter.
        folder: Empty; for its files.

    Raises:
        ComponentError: What must be changed.
    """
    space = example_space()
    model = derived(space, sample(space, generator_for(0, "check_exporter"))).eval()
    before = state_of(model)
    exporter = factory()
    where = type(exporter).__name__
    path = exporter.export(model, torch.randn(4, NUM_INPUTS), folder)
    require(
        path.exists() and folder in path.parents,
        f"{where}: must return the path of what it wrote into {folder}, got {path}",
    )
    require(same(before, state_of(model)), f"{where}: must leave the model as it was; export a copy")


def check_cost(factory: Callable[[], Cost], model: Model | None = None, task: Task | None = None) -> None:
    """Check a cost: a number that is not negative, the same each time, with the model as it was.

    Args:
        factory: Builds the cost.
        model: What is priced; a tiny network unless given.
        task: What it is for.

    Raises:
        ComponentError: What must be changed.
    """
    space = example_space()
    model = model or derived(space, sample(space, generator_for(0, "check_cost")))
    task = task or Task((NUM_INPUTS,), NUM_CLASSES)
    before, cost = state_of(model), factory()
    where = type(cost).__name__
    price = cost.of(model, task)
    require(
        math.isfinite(price) and price >= 0,
        f"{where}: a cost must be finite and not negative, got {price}",
    )
    require(cost.of(model, task) == price, f"{where}: must be the same for the same model")
    require(same(before, state_of(model)), f"{where}: must leave the model as it was")
