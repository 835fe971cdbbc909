"""Equal budgets: how many epochs of a supernet, or trainings of an explorer, cost as much as is allowed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final

from nasframe.core import generator_for, sample
from nasframe.errors import UnsupportedError
from nasframe.recipe import Recipe
from nasframe.recipe.exploring import declared, trains_supernet
from nasframe.recipe.planning import task_of
from nasframe.recipe.recipe import Search
from nasframe.recipe.rehearsal import rehearse
from nasframe.registry import Component
from nasframe.study.plan import Budget

_LEAST: Final = "an epoch of the supernet and the scores after it"


def within(recipe: Recipe, budget: Budget, plugins: Sequence[Path] = ()) -> Recipe:
    """The recipe with a search that costs as much as the budget allows.

    A supernet gets as many epochs, and the stages of a search get shares of them as they have them in the
    recipe; an explorer that has architectures trained gets as many of them. One that has neither keeps its
    evaluations, and costs less.

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
        if epochs < max(1, len(search.stages)):
            least = f"an epoch of each of {len(search.stages)} stages" if search.stages else _LEAST
            raise _too_small(recipe, budget, least)
        return replace(recipe, search=with_epochs(search, epochs))
    if search.score is None or not declared(search.score, "takes_budgets"):
        return recipe
    each = _epochs_of(search.trainer)
    total = budget.epochs or _affordable_trainings(recipe, budget.seconds or 0.0, plugins) * each
    evaluations = _evaluations(recipe, total / each)
    if evaluations < 1:
        raise _too_small(recipe, budget, f"a training of {each} epochs")
    return replace(recipe, search=replace(search, evaluations=evaluations))


def epochs_of(search: Search) -> tuple[int, ...]:
    """Passes over the training examples: of each stage, or of a search without stages."""
    trainers = [stage.trainer for stage in search.stages] or [search.trainer]
    return tuple(map(_epochs_of, trainers))


def with_epochs(search: Search, total: int) -> Search:
    """The search with as many epochs in all, at least one for each stage."""
    if not search.stages:
        return replace(search, trainer=_for(search.trainer, total))
    shares = _shared(total, epochs_of(search))
    pairs = zip(search.stages, shares, strict=True)
    stages = tuple(replace(stage, trainer=_for(stage.trainer, epochs)) for stage, epochs in pairs)
    return replace(search, stages=stages)


def _shared(total: int, parts: Sequence[int]) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to some others as near as can be; none is 0."""
    ends, whole, count = [0], sum(parts), len(parts)
    for index, until in enumerate(accumulate(parts), start=1):
        ends.append(min(max(round(total * until / whole), ends[-1] + 1), total - (count - index)))
    return [end - start for start, end in pairwise(ends)]


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
    scores = _rehearsed(recipe, "scoring", plugins).seconds if recipe.search.explorer is not None else 0.0
    own = epochs_of(recipe.search)
    found = [_rehearsed(recipe, "search", plugins, skipped=index) for index in range(len(own))]
    an_epoch = [each.seconds / each.num_epochs for each in found]
    total = int((seconds - scores) / (_sum_of_products(an_epoch, own) / sum(own)))
    while total >= len(own) and _sum_of_products(an_epoch, _shared(total, own)) > seconds - scores:
        total -= 1
    return total


def _sum_of_products(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _affordable_trainings(recipe: Recipe, seconds: float, plugins: Sequence[Path]) -> int:
    return int(seconds / _rehearsed(recipe, "scoring", plugins).seconds)


def _rehearsed(recipe: Recipe, stage: str, plugins: Sequence[Path], skipped: int = 0) -> Any:
    genotype = sample(recipe.space(task_of(recipe)), generator_for(recipe.seed, "study"))
    return rehearse(recipe, stage, genotype, plugins, skipped=skipped)
