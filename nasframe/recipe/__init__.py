"""The composition root: reads a recipe, builds what it names, and takes it through its stages."""

from nasframe.recipe.loading import load_recipe
from nasframe.recipe.recipe import Recipe, Retrain, Search
from nasframe.recipe.schema import dump_recipe, recipe_to_mapping
from nasframe.recipe.stages import Run, open_run, resume, run

__all__ = [
    "Recipe",
    "Retrain",
    "Run",
    "Search",
    "dump_recipe",
    "load_recipe",
    "open_run",
    "recipe_to_mapping",
    "resume",
    "run",
]
