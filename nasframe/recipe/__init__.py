"""The composition root: reads a recipe, builds what it names, and takes it through its stages."""

from nasframe.recipe.recipe import Recipe, Retrain, Search

__all__ = ["Recipe", "Retrain", "Search"]
