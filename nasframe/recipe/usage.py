"""How a component stands in a recipe: its slots, what it works with, and a fragment to paste."""

import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from nasframe.errors import ComponentError, Problem, RecipeError
from nasframe.recipe.pairing import Parts, pairing_problems
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.schema import plain, read_recipe, settings_of, slot_of, slots_of_recipe
from nasframe.recipe.tree import COMMAND_LINE, Node, node_of
from nasframe.registry import Component, NameIn, Registry, registries
from nasframe.settings import Setting
from nasframe.types import Amount

Path: TypeAlias = tuple[str, ...]
Names: TypeAlias = Collection[tuple[str, str]]

_BASE: Final = {"name": "mine", "data": "digits", "space": "darts"}
_DEEPEST: Final = 6


@final
@dataclass(frozen=True)
class Slot:
    """Where components of a registry stand.

    Attributes:
        path: Its keys in a recipe.
        form: ``one``, ``optional``, ``list``, ``mapping``; or ``names``, a list of names in a setting.
        owner: The component that has that setting, where it stands in no recipe by default.
    """

    path: Path
    form: str
    owner: Component[Any] | None = None


@final
@dataclass(frozen=True)
class Partners:
    """Which components of another registry a component works with."""

    registry: str
    fitting: list[str]
    unfitting: list[str]


def slots_for(registry: Registry[Any], without: Names = ()) -> list[Slot]:
    """Where a recipe has components of a registry, the best place to show one first.

    Args:
        registry: The registry.
        without: Components that are not imported, by registry and name.
    """
    found = [Slot(path, form) for path, form, each in _all_slots() if each is registry]
    found += _slots_in_others(registry, without)

    def remoteness(slot: Slot) -> tuple[bool, int]:
        return not registry.name.startswith(slot.path[-1]), len(slot.path)  # search.trainer.optimizer

    return sorted(found, key=remoteness)


def _all_slots() -> Iterator[tuple[Path, str, Registry[Any]]]:
    """The slots of a recipe, and those of the components that stand in them by default."""
    for path, form, registry in slots_of_recipe():
        yield path, form, registry
        setting = _setting_at(path)
        if isinstance(setting.default, Component):
            yield from _slots_in(setting.default, path)


def _setting_at(path: Path) -> Setting:
    section: type = Recipe
    for name in path[:-1]:
        section = settings_of(section)[name].annotation
    return settings_of(section)[path[-1]]


def _slots_in(component: Component[Any], path: Path) -> Iterator[tuple[Path, str, Registry[Any]]]:
    for name, setting in registries[component.registry].signature(component.name).settings.items():
        form, registry = slot_of(setting.annotation)
        if registry is not None and len(path) < _DEEPEST:
            yield (*path, name), form, registry
            if isinstance(setting.default, Component):
                yield from _slots_in(setting.default, (*path, name))


def _slots_in_others(registry: Registry[Any], without: Names) -> Iterator[Slot]:
    """Settings of components in a recipe's own slots that must be given, or that list its names."""
    for path, form, other in slots_of_recipe():
        names = [each for each in other.names() if form == "one" and (other.name, each) not in without]
        for name in names:
            for key, setting in other.signature(name).settings.items():
                inner_form, inner = slot_of(setting.annotation)
                if inner is registry and setting.required:
                    yield Slot((*path, key), inner_form, other.component(name))
                if _lists_names(setting.annotation, registry):
                    yield Slot((*path, key), "names", other.component(name))


def _lists_names(annotation: Any, registry: Registry[Any]) -> bool:
    items = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    return any(NameIn(registry.name) in typing.get_args(item) for item in items)


def partners_of(registry: Registry[Any], name: str, without: Names = ()) -> list[Partners]:
    """What a component works with, in each other slot where it does not work with everything.

    Args:
        registry: Where the component is registered.
        name: Its name.
        without: Components to leave out, by registry and name; they are not imported.
    """
    slots = {path: (form, each) for path, form, each in slots_of_recipe() if path != ("data",)}
    own = next((path for path, (_, each) in slots.items() if each is registry), None)
    if own is None:
        return []
    found = {}
    own_form = slots[own][0]
    for path, (form, other) in slots.items():
        names = [each for each in other.names() if (other.name, each) not in without]
        fits = {
            each: _fit({own: (own_form, (registry, name)), path: (form, (other, each))}) for each in names
        }
        if other is not registry and not all(fits.values()):
            fitting = [each for each in names if fits[each]]
            found[other.name] = Partners(other.name, fitting, [each for each in names if not fits[each]])
    return list(found.values())


def _fit(components: Mapping[Path, tuple[str, tuple[Registry[Any], str]]]) -> bool:
    """Whether components with their defaults can stand together in a recipe, each in a slot of a form."""
    try:
        made = {path: _with_defaults(*named) for path, (_, named) in components.items()}
        values = {
            ".".join(path): (made[path],) if form == "list" else made[path]
            for path, (form, _) in components.items()
        }
        alone = [problem for path, value in values.items() for problem in _problems({path: value})]
        return len(_problems(values)) <= len(alone)
    except ComponentError:
        return False


def _problems(values: Mapping[str, Any]) -> list[Any]:
    return list(pairing_problems(Parts(Node({}, COMMAND_LINE, COMMAND_LINE), values)))


def _with_defaults(registry: Registry[Any], name: str) -> Component[Any]:
    settings = registry.signature(name).settings.items()
    return registry.component(name, **{key: each.default for key, each in settings if not each.required})


def fragment_of(registry: Registry[Any], name: str, without: Names = ()) -> dict[str, Any] | None:
    """Part of a recipe that has a component with all its defaults, and what it needs beside it.

    Settings that have no default are ``...``, or an amount.

    Returns:
        Plain data; None if no recipe takes such components.
    """
    slots = slots_for(registry, without)
    if not slots:
        return None
    slot = slots[0]
    component = {"type": name, **_settings(registry, name)}
    value: Any = {"list": [component], "mapping": {"name": component}}.get(slot.form, component)
    if slot.owner is None:
        fragment = _at(slot.path, value)
    elif slot.form == "names":
        fragment = _at(slot.path[:-1], _listing(slot.owner, slot.path[-1], name))
    else:
        fragment = _at(slot.path[:-1], {"type": slot.owner.name, slot.path[-1]: value})
    return _with_companions(fragment, without)


def _settings(registry: Registry[Any], name: str) -> dict[str, Any]:
    settings = registry.signature(name).settings.values()
    return {each.name: _placeholder(each) if each.required else plain(each.default) for each in settings}


def _placeholder(setting: Setting) -> Any:
    form, registry = slot_of(setting.annotation)
    if form == "one" and registry is not None and registry.names():
        return {"type": registry.names()[0], **_settings(registry, registry.names()[0])}
    return "60 M" if setting.annotation == Amount else "..."


def _listing(owner: Component[Any], key: str, name: str) -> dict[str, Any]:
    """A component whose setting `key` lists `name` among its defaults."""
    setting = registries[owner.registry].signature(owner.name).settings[key]
    names = [] if setting.required else list(setting.default)
    return {"type": owner.name, key: names if name in names else [*names, name]}


def _at(path: Path, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    found: dict[str, Any] = value
    return found


def _with_companions(fragment: dict[str, Any], without: Names, most: int = 3) -> dict[str, Any]:
    """A fragment with other components, where it does not work with what stands there by default."""
    if not (problems := _pairing(fragment)):
        return fragment
    slots = [(path, each) for path, form, each in slots_of_recipe() if form in ("one", "optional")]
    for path, registry in slots:
        for name in _complete(registry, without):
            both: dict[str, Any] = _merged(fragment, _at(path, name))
            if both != fragment and not _pairing(both):
                return both
    blamed = [tuple(problem.path.split(".")) for problem in problems] if most else []
    for path, registry in slots:
        for name in _complete(registry, without) if path in blamed else ():
            both = _merged(fragment, _at(path, name))
            if both != fragment and not _pairing(found := _with_companions(both, without, most - 1)):
                return found
    return fragment


def _complete(registry: Registry[Any], without: Names) -> Iterator[str]:
    """The components that need no setting."""
    for name in registry.names():
        is_known = (registry.name, name) not in without
        if is_known and not any(each.required for each in registry.signature(name).settings.values()):
            yield name


def _pairing(fragment: dict[str, Any]) -> list[Problem]:
    """The problems of parts that do not fit together."""
    try:
        read_recipe(node_of({**_BASE, **fragment}, COMMAND_LINE), check=False)
    except RecipeError as error:
        return [p for p in error.problems if p.kind.code.startswith(("NF08", "NF11", "NF12"))]
    return []


def _merged(fragment: Any, other: Any) -> Any:
    """Both; where they say different things, the fragment's."""
    if not isinstance(fragment, dict) or not isinstance(other, dict):
        return fragment
    both = {key: _merged(fragment[key], other[key]) for key in fragment.keys() & other.keys()}
    return {**other, **fragment, **both}
