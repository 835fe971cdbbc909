"""Equal budgets: how many epochs of a supernet, or trainings of an explorer, cost as much as is allowed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasframe.core import generator_for, sample
from nasframe.errors import UnsupportedError
from nasframe.recipe import Recipe
from nasframe.recipe.exploring import declared, trains_supernet
from nasframe.recipe.planning import task_of
from nasframe.recipe.rehearsal import rehearse
from nasframe.registry import Component
from nasframe.study.plan import Budget


def within(recipe: Recipe, budget: Budget, plugins: Sequence[Path] = ()) -> Recipe:
    """The recipe with a search that costs as much as the budget allows.

    A supernet gets as many epochs; an explorer that has architectures trained gets as many of them. One that
    has neither keeps its evaluations, and costs less.

    Args:
        recipe: Of a method.
        budget: In epochs, or in seconds, which are then measured.
        plugins: Modules of the user's that the recipe needs.

    Raises:
        UnsupportedError: The budget is less than the least that the search can cost.
    """
    search = recipe.search
    if trains_supernet(search.score):
        epochs = budget.epochs or _affordable_epochs(recipe, budget.seconds or 0.0, plugins)
        if epochs < 1:
            raise _too_small(recipe, budget, "an epoch of the supernet and the scores after it")
        return replace(recipe, search=replace(search, trainer=_for(search.trainer, epochs)))
    if search.score is None or not declared(search.score, "takes_budgets"):
        return recipe
    each = _epochs_of(search.trainer)
    total = budget.epochs or _affordable_trainings(recipe, budget.seconds or 0.0, plugins) * each
    evaluations = _evaluations(recipe, total / each)
    if evaluations < 1:
        raise _too_small(recipe, budget, f"a training of {each} epochs")
    return replace(recipe, search=replace(search, evaluations=evaluations))


def _too_small(recipe: Recipe, budget: Budget, least: str) -> UnsupportedError:
    given = f"{budget.epochs} epochs" if budget.epochs else f"{budget.seconds:g} s"
    return UnsupportedError(
        f"budget: must allow {least} ({recipe.name}), got {given}; allow more, or make the recipe smaller"
    )


def _for(trainer: Component[Any], epochs: int) -> Component[Any]:
    _epochs_of(trainer)
    return replace(trainer, settings={**trainer.settings, "epochs": epochs})


def _epochs_of(trainer: Component[Any]) -> int:
    epochs = trainer.settings.get("epochs")
    if not isinstance(epochs, int):
        raise UnsupportedError(
            f"search.trainer: must have epochs, which a study makes equal, but `{trainer.name}` has "
            f"{', '.join(trainer.settings) or 'no setting'}; take another trainer"
        )
    return epochs


def _evaluations(recipe: Recipe, total: float) -> int:
    """How many architectures an explorer asks for until their shares of a training add up to `total`."""
    assert recipe.search.explorer is not None  # a score has an explorer
    space = recipe.space(task_of(recipe))
    explorer, spent, count = recipe.search.explorer(space, recipe.seed), 0.0, 0
    while True:
        genotype = explorer.ask()
        spent += explorer.budget
        if spent > total * (1 + 1e-9):
            return count
        explorer.tell(genotype, 0.0)
        count += 1


def _affordable_epochs(recipe: Recipe, seconds: float, plugins: Sequence[Path]) -> int:
    found = _rehearsed(recipe, "search", plugins)
    scores = _rehearsed(recipe, "scoring", plugins).seconds if recipe.search.explorer is not None else 0.0
    return int((seconds - scores) / (found.seconds / found.num_epochs))


def _affordable_trainings(recipe: Recipe, seconds: float, plugins: Sequence[Path]) -> int:
    return int(seconds / _rehearsed(recipe, "scoring", plugins).seconds)


def _rehearsed(recipe: Recipe, stage: str, plugins: Sequence[Path]) -> Any:
    genotype = sample(recipe.space(task_of(recipe)), generator_for(recipe.seed, "study"))
    return rehearse(recipe, stage, genotype, plugins)
