"""Where the values of a recipe come from, and how two recipes differ."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from nasframe.recipe.discovery import shipped_recipes
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.schema import recipe_to_mapping
from nasframe.recipe.tree import KeyPath, Place


@final
@dataclass(frozen=True)
class Sourced:
    """A value of a complete recipe.

    Attributes:
        value: As plain data.
        place: Where it was written.
    """

    value: Any
    place: Place


@final
@dataclass(frozen=True)
class Difference:
    """A path that two recipes have different values at, or only one of them has."""

    path: KeyPath
    left: Sourced | None
    right: Sourced | None


def sourced_values(recipe: Recipe, places: Mapping[KeyPath, Place]) -> dict[KeyPath, Sourced]:
    """Each value by its path, in the order of the recipe.

    Args:
        recipe: The recipe.
        places: What `load_with_places` told of it.
    """
    return dict(_sourced(recipe_to_mapping(recipe), (), places))


def _sourced(value: Any, path: KeyPath, places: Mapping[KeyPath, Place]) -> Iterator[tuple[KeyPath, Sourced]]:
    if path in places:
        yield path, Sourced(value, places[path])
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _sourced(item, (*path, key), places)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _sourced(item, (*path, index), places)


def dotted(path: KeyPath) -> str:
    """A path as a recipe's override says it."""
    return ".".join(map(str, path))


def origin_of(place: Place) -> str:
    """Where a value was written, in a word; a shipped recipe goes by its name."""
    if place.is_default or not place.file:
        return _sort(place)
    path = Path(place.file)
    file = path.stem if shipped_recipes().get(path.stem) == path.absolute() else place.file
    return f"{file}:{place.line}"


def _sort(place: Place) -> str:
    return "default" if place.is_default else "file" if place.file else "command line"


def sourced_as_json(value: Sourced) -> dict[str, Any]:
    """A value and its place as plain data."""
    place = value.place
    told: dict[str, Any] = {"value": value.value, "origin": _sort(place)}
    if told["origin"] == "file":
        told |= {"file": place.file, "line": place.line, "column": place.column}
    return told


def provenance_of(recipe: Recipe) -> list[dict[str, Any]]:
    """The path, the value and the origin of all that a recipe says, in its order, as plain data."""
    values = sourced_values(recipe, recipe.places).items()
    return [
        {"path": dotted(path), "value": each.value, "origin": origin_of(each.place)} for path, each in values
    ]


def differences(left: Mapping[KeyPath, Sourced], right: Mapping[KeyPath, Sourced]) -> Iterator[Difference]:
    """What differs between two recipes, in the order of the left one; the right one's own follow theirs."""
    for path in both_in_order(left, right):
        of_left, of_right = left.get(path), right.get(path)
        if of_left is None or of_right is None or of_left.value != of_right.value:
            yield Difference(path, of_left, of_right)


def both_in_order(left: Iterable[KeyPath], right: Iterable[KeyPath]) -> Iterator[KeyPath]:
    """All paths; those of the right alone come after the one that they follow there."""
    following: dict[KeyPath, list[KeyPath]] = {(): []}
    following |= {path: [] for path in left}
    before: KeyPath = ()
    for path in right:
        if path in following:
            before = path
        else:
            following[before].append(path)
    for path, own in following.items():
        yield from ([path] if path else [])
        yield from own
