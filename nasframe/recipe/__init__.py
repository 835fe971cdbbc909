"""The composition root: reads a recipe, builds what it names, and takes it through its stages.

Names are imported when they are first used: the list of shipped recipes needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasframe.recipe.evaluation import Evaluation
    from nasframe.recipe.labelled_files import evaluate_files
    from nasframe.recipe.loading import load_recipe
    from nasframe.recipe.opening import load
    from nasframe.recipe.planning import Plan, Survey, plan, survey
    from nasframe.recipe.recipe import Recipe, Retrain, Search
    from nasframe.recipe.result import Run, open_run
    from nasframe.recipe.running import resume, run
    from nasframe.recipe.schema import dump_recipe, recipe_to_mapping

_HOMES = {
    "evaluation": ("Evaluation",),
    "labelled_files": ("evaluate_files",),
    "loading": ("load_recipe",),
    "opening": ("load",),
    "planning": ("Plan", "Survey", "plan", "survey"),
    "recipe": ("Recipe", "Retrain", "Search"),
    "result": ("Run", "open_run"),
    "running": ("resume", "run"),
    "schema": ("dump_recipe", "recipe_to_mapping"),
}
_HOME_OF = {name: f"nasframe.recipe.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "Evaluation",
    "Plan",
    "Recipe",
    "Retrain",
    "Run",
    "Search",
    "Survey",
    "dump_recipe",
    "evaluate_files",
    "load",
    "load_recipe",
    "open_run",
    "plan",
    "recipe_to_mapping",
    "resume",
    "run",
    "survey",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nasframe.recipe' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
