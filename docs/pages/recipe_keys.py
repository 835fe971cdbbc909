"""The keys of a recipe, from the typed tree that it is read into."""

from collections.abc import Iterator

from nasframe.cli.catalog import described
from nasframe.recipe import Recipe
from nasframe.recipe.recipe import Health, Retrain, Search, SearchStage
from nasframe.recipe.schema import settings_of
from pages.markdown import first_line, settings

_SECTIONS = {
    "At the top": Recipe,
    "`search`": Search,
    "`search.health`": Health,
    "Each of `search.stages`": SearchStage,
    "`retrain`": Retrain,
}


def make() -> Iterator[tuple[str, str]]:
    """Path and text of the page."""
    told = "\n\n".join(
        f"## {title}\n\n{first_line(section.__doc__)}\n\n{_keys(section)}"
        for title, section in _SECTIONS.items()
    )
    yield (
        "reference/recipe",
        f"""# Keys of a recipe

A component is its name, or a mapping of `type` and its settings. `include: [FILE, …]` lays recipes
below this one, `${{a.b}}` refers to another value, and `version: 1` names the format.

{told}""",
    )


def _keys(section: type) -> str:
    others = ("search", "health", "retrain")  # sections of their own
    return settings(described(key) for key in settings_of(section).values() if key.name not in others)
