"""Trackers, exporters, costs and benchmarks."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from nasframe.core import (
    Benchmark,
    Cost,
    Exporter,
    Graph,
    Model,
    Record,
    Task,
    Tracker,
    derived,
    generator_for,
    sample,
    spaces,
)
from nasframe.errors import FormatError, UnsupportedError
from nasframe.registry import Component
from nasframe.testing._example import NUM_CLASSES, NUM_INPUTS, example_space
from nasframe.testing._verdict import fail, require, same, state_of


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
        f"{where}: must write below the directory that it is given, got {[str(path) for path in written]}; "
        "make every path from `directory`",
    )


def check_exporter(factory: Callable[[], Exporter], folder: Path) -> None:
    """Check an exporter: the file exists where it says, and the model is as it was.

    One that needs a finished run must refuse a network alone.

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
    example = torch.randn(4, NUM_INPUTS)
    if exporter.needs_run:
        _check_refuses(exporter, model, example, folder)
        return
    path = exporter.export(model, example, folder)
    require(
        path.exists() and folder in path.parents,
        f"{where}: must return the path of what it wrote into {folder}, got {path}; write `folder / name`",
    )
    require(same(before, state_of(model)), f"{where}: must leave the model as it was; export a copy")


def _check_refuses(exporter: Exporter, model: Model, example: torch.Tensor, folder: Path) -> None:
    try:
        exporter.export(model, example, folder)
    except UnsupportedError:
        return
    where = type(exporter).__name__
    require(False, f"{where}: says needs_run, so export must raise an UnsupportedError; or write the network")


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
        f"{where}: a cost must be finite and not negative, got {price}; correct its unit",
    )
    require(
        cost.of(model, task) == price, f"{where}: must be the same for the same model; average what varies"
    )
    require(same(before, state_of(model)), f"{where}: must leave the model as it was; work on a copy")


def check_benchmark(factory: Callable[[], Benchmark], task: Task | None = None) -> None:
    """Check a benchmark: the better an architecture the smaller its rank, and others are refused.

    Args:
        factory: Builds the benchmark.
        task: What its space is built for; images of CIFAR-10 unless given.

    Raises:
        ComponentError: What must be changed.
    """
    benchmark = factory()
    where = type(benchmark).__name__
    declared: Any = getattr(benchmark, "space", None)
    require(
        isinstance(declared, Component) and declared.registry == "spaces" and declared.name in spaces,
        f"{where}: space must name a space, got {declared!r}; write spaces.component(name, ...)",
    )
    space, generator = declared(task or Task()), generator_for(0, "check_benchmark")
    genotypes = [sample(space, generator) for _ in range(20)]
    standings = [benchmark.standing(genotype) for genotype in genotypes]
    require(
        standings == [benchmark.standing(genotype) for genotype in genotypes],
        f"{where}: must say the same of the same architecture; draw nothing",
    )
    for each in standings:
        require(
            0 <= each.accuracy <= 1 and 1 <= each.rank <= each.count,
            f"{where}: accuracies must be from 0 to 1 and ranks from 1 to the count, got {each}; "
            "divide percentages by 100",
        )
    ranked = sorted(standings, key=lambda each: each.rank)
    require(
        all(
            (better.rank == worse.rank) == (better.accuracy == worse.accuracy)
            and better.accuracy >= worse.accuracy
            for better, worse in pairwise(ranked)
        ),
        f"{where}: a more accurate architecture must have a smaller rank, and equal ones share it; "
        "rank by accuracy",
    )
    try:
        benchmark.standing(sample(example_space(), generator))
    except FormatError:
        return
    fail(f"{where}: must refuse an architecture of another space with a FormatError; compare its choices")
