"""Scores for an explorer, made in the run's own process or for it in another one."""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import final

from nasframe.core import Genotype, Model, Score, Space, Testbed
from nasframe.recipe.discovery import import_modules
from nasframe.recipe.exploring import Outcome, ScoreTraining, outcome_of
from nasframe.recipe.loading import load_recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.stages.workshop import Workshop


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
    training = ScoreTraining(
        section.trainer,
        data,
        train,
        valid,
        objective,
        section.augment,
        recipe.seed,
        workshop.device,
        workshop.directory.stage("search") / "scoring",
        workshop.interrupts,
        workshop.fit,
    )
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
