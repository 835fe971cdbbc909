"""Scores for an explorer, made in the run's own process or for it in another one."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import final

import torch

from nasframe.core import (
    Checkpoints,
    Genotype,
    Job,
    Model,
    Objective,
    Score,
    Space,
    Split,
    Subset,
    Testbed,
    Trainer,
    algorithms,
)
from nasframe.errors import UnsupportedError
from nasframe.recipe.discovery import import_modules
from nasframe.recipe.exploring import Outcome, outcome_of
from nasframe.recipe.loading import load_recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.stages.workshop import Workshop
from nasframe.registry import Component
from nasframe.types import Metrics


@final
@dataclass(frozen=True)
class ScoreTraining:
    """Trains networks to be scored, by the search's trainer.

    Attributes:
        workshop: Of the run.
        objective: Loss and metrics.
        train: Examples for weights.
        valid: Examples held out.
        folder: For checkpoints; gone between trainings.
    """

    workshop: Workshop
    objective: Objective
    train: Split
    valid: Split
    folder: Path

    def evaluate(self, model: Model) -> Metrics:
        """``loss`` and metrics of a network on the held-out examples."""
        return self._evaluated(self.workshop.recipe.search.trainer(), model)

    def __call__(
        self, model: Model, genotype: Genotype, *, budget: float = 1.0, examples: float = 1.0
    ) -> Metrics:
        """See `TrainNetwork`."""
        shop = self.workshop
        what = f"{genotype.to_json()} {budget!r} {examples!r}"
        folder = self.folder / hashlib.sha256(what.encode()).hexdigest()[:16]
        trainer = _within(shop.recipe.search.trainer, budget)()
        nothing = torch.arange(0)
        part = torch.arange(max(1, round(examples * len(self.train))))
        job = Job(
            stage="scoring",
            seed=shop.recipe.seed,
            device=shop.device,
            model=model,
            objective=self.objective,
            make_algorithm=algorithms.component("weights_only"),
            train=Subset(self.train, part),
            valid=Subset(self.valid, nothing),
            preprocess=shop.data.preprocess,
            augment=[component() for component in shop.recipe.search.augment],
            describe=lambda record: record,
            start_tracking=lambda start: lambda record: None,
            checkpoints=Checkpoints(folder),
            progress=lambda *told, **more: None,
            interrupts=shop.interrupts,
            num_outputs=shop.data.task.num_outputs,
        )
        shop.fit(trainer, job)
        metrics = self._evaluated(trainer, model)
        job.checkpoints.delete()
        with suppress(OSError):  # others are trained beside it
            self.folder.rmdir()
        return metrics

    def _evaluated(self, trainer: Trainer, model: Model) -> Metrics:
        return trainer.evaluate(model, self.objective, self.valid, self.workshop.data.preprocess)


def _within(trainer: Component[Trainer], budget: float) -> Component[Trainer]:
    """A trainer with a share of its epochs."""
    if budget == 1:
        return trainer
    epochs = trainer.settings.get("epochs")
    if not isinstance(epochs, int) or round(epochs * budget) < 1:
        raise UnsupportedError(
            f"search.trainer: a share of {budget:g} of its epochs must be at least one, but it has "
            f"{epochs or 'no such setting'}; give it more epochs, or let the explorer use larger budgets"
        )
    return replace(trainer, settings={**trainer.settings, "epochs": round(epochs * budget)})


def score_of(workshop: Workshop, space: Space, model: Model | None) -> Score:
    """What scores the architectures of a space, as the recipe says.

    Args:
        workshop: Of the run.
        space: That of the search.
        model: The trained supernet, where the score needs one.
    """
    recipe, data = workshop.recipe, workshop.data
    section = recipe.search
    train, valid = workshop.examples(section.valid_fraction)
    objective = recipe.objective()
    folder = workshop.directory.stage("search") / "scoring"
    training = ScoreTraining(workshop, objective, train, valid, folder)
    testbed = Testbed(
        space,
        data.task,
        objective,
        train,
        data.preprocess,
        recipe.seed,
        workshop.device,
        training.evaluate,
        training,
        model,
    )
    assert section.score is not None  # as the recipe's check says
    return section.score(testbed)


def score_elsewhere(folder: Path, modules: tuple[Path, ...], genotype: Genotype, budget: float) -> Outcome:
    """Score an architecture for a run of another process.

    Args:
        folder: The run directory.
        modules: The user's own, imported first.
        genotype: The architecture.
        budget: Share of the whole budget.
    """
    import_modules(modules)
    return _scoring(folder).outcome(genotype, budget)


@lru_cache(maxsize=1)
def _scoring(folder: Path) -> "_Scoring":
    """What scores for a run; data are read once by each process."""
    recipe = load_recipe(folder / "recipe.yaml", check=False, outside=True)
    return _Scoring(Workshop(recipe, RunDirectory(folder)))


@final
class _Scoring:
    """Scores architectures with new weights, in a process that does nothing else."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def outcome(self, genotype: Genotype, budget: float) -> Outcome:
        recipe = self._workshop.recipe
        with self._workshop.computing(recipe.threads or 1):
            return outcome_of(self._score, genotype, budget, recipe.seed)

    @cached_property
    def _score(self) -> Score:
        space: Space = self._workshop.recipe.space(self._workshop.data.task)
        return score_of(self._workshop, space, None)
