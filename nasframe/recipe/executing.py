"""Where many runs of recipes are made, as the command line says it."""

from collections.abc import Sequence
from dataclasses import dataclass

from nasframe.core import Executor, executors
from nasframe.recipe.loading import read_overrides
from nasframe.recipe.schema import read_sections
from nasframe.registry import Component


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What is said of it.

    Args:
        on: Runs them.
    """

    on: Component[Executor] = executors.component("processes")


def read_executor(overrides: Sequence[str]) -> Component[Executor]:
    """An executor with its settings.

    Args:
        overrides: ``on=ray``, ``on={type: ray, gpus: 0.5}``, ``on.jobs=4``.

    Raises:
        RecipeError: Something is wrong; it holds all problems.
    """
    tree, problems = read_overrides(overrides)
    return read_sections(Execution, tree, problems, "the execution").on
