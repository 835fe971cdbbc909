"""What every stage of a run works with."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Final, TypeAlias, final

from nasframe.core import (
    Benchmark,
    Choice,
    Cost,
    Dataset,
    Genotype,
    Interrupts,
    Job,
    Prices,
    Split,
    Standing,
    Trainer,
    hold_out,
    price,
)
from nasframe.core.dataset import checked
from nasframe.core.ranks import num_ranks
from nasframe.recipe.devices import kernels_for, threads_for
from nasframe.recipe.joining import device_of_rank
from nasframe.recipe.pricing import CostRange
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.registry import Component

_ECHO_SECONDS: Final = 2.0  # in which torchrun has passed a signal on

Fit: TypeAlias = Callable[[Trainer, Job], None]
"""Trains the model of a job by a trainer."""


def fit_plainly(trainer: Trainer, job: Job) -> None:
    """Let the trainer do it."""
    trainer.fit(job)


@final
class Workshop:
    """What was given for a run, and what follows from that alone.

    Args:
        recipe: Of the run.
        directory: Of the run.
        fit: How all its networks are trained.

    Attributes:
        device: Where networks run.
        interrupts: A step is whole.

    Raises:
        UnsupportedError: This machine does not have the device of the recipe.
    """

    def __init__(self, recipe: Recipe, directory: RunDirectory, fit: Fit = fit_plainly) -> None:
        self.recipe, self.directory, self.fit = recipe, directory, fit
        self.device = device_of_rank(recipe.device)
        self.interrupts = Interrupts(_ECHO_SECONDS if num_ranks() > 1 else 0.0)

    @cached_property
    def data(self) -> Dataset:
        """Read when they are first asked for."""
        data: Dataset = self.recipe.data()
        return checked(data)

    @cached_property
    def _benchmark(self) -> Benchmark | None:
        component = self.recipe.search.benchmark
        return None if component is None else component()

    def standing(self, genotype: Genotype) -> Standing | None:
        """Where an architecture truly stands; None without a table that says so."""
        return None if self._benchmark is None else self._benchmark.standing(genotype)

    def prices(self, choices: Mapping[str, Choice], cost: Component[Cost]) -> Prices:
        """What the networks that will be retrained cost, choice by choice; a budget without effect is noted.

        Args:
            choices: Of the space that is searched.
            cost: That of the search.
        """
        found = self.retrained_prices(cost)
        told = CostRange.of(choices, found, cost, self.recipe.search.penalty)
        if told.is_all_allowed:
            self.directory.note(f"search.penalty: {told.verdict}")
        return found

    def examples(self, valid_fraction: float) -> tuple[Split, Split]:
        """The examples to learn from, and those held out."""
        return hold_out(self.data.train, valid_fraction, self.recipe.seed)

    def retrained_prices(self, cost: Component[Cost]) -> Prices:
        """What the networks that are retrained cost; made once, for what is measured varies."""
        recipe, task = self.recipe, self.data.task
        return self.directory.prices(lambda: price(recipe.retrain.space(task), task, cost()))

    @contextmanager
    def computing(self, threads: int | None) -> Iterator[None]:
        """Inside, PyTorch computes with some threads as the recipe wants it, and signals interrupt."""
        kernels = kernels_for(self.device, deterministic=self.recipe.deterministic)
        with threads_for(threads), self.interrupts, kernels:
            yield
