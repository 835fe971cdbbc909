"""A recipe without what its defaults say anyway."""

import dataclasses
import json
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

from nasframe.recipe.recipe import INHERITED_FROM, Recipe
from nasframe.recipe.schema import listed_section, plain, settings_of
from nasframe.registry import Component, registries
from nasframe.settings import REQUIRED

_NOTHING: Final = object()


def minimal_mapping(recipe: Recipe) -> dict[str, Any]:
    """The least plain data that loads to an equal recipe."""
    inherited = {target: attrgetter(source)(recipe) for target, source in INHERITED_FROM.items()}
    return _section(recipe, "", inherited)


def _section(section: Any, prefix: str, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """What must be said of a section; slots in `inherited` start from what is there."""
    said = {}
    for name, setting in settings_of(type(section)).items():
        value, path = getattr(section, name), f"{prefix}{name}"
        if dataclasses.is_dataclass(setting.annotation):
            part: Any = _section(value, f"{path}.", inherited) or _NOTHING
        elif listed_section(setting.annotation):
            part = [_section(item, f"{path}.*.", inherited) for item in value] or _NOTHING
        else:
            part = _said(value, inherited.get(path, setting.default))
        if part is not _NOTHING:
            said[name] = part
    return said


def _said(value: Any, start: Any) -> Any:
    """What must be said so that a slot or setting holds `value`, where nothing said makes it `start`."""
    if isinstance(value, Component):
        return _component(value, start)
    if isinstance(value, Mapping) and isinstance(start, Mapping) and _holds_components(value):
        parts = {key: _said(item, start.get(key, REQUIRED)) for key, item in value.items()}
        return {key: part for key, part in parts.items() if part is not _NOTHING} or _NOTHING
    said, default = _alone(value), _NOTHING if start is REQUIRED else _alone(start)
    return _NOTHING if default is not _NOTHING and json.dumps(said) == json.dumps(default) else said


def _component(component: Component[Any], start: Any) -> Any:
    same = isinstance(start, Component) and start.name == component.name
    begin = start.settings if same else {}
    said = {}
    for name, setting in registries[component.registry].signature(component.name).settings.items():
        if name in component.settings:
            below = _over(setting.default, begin[name]) if name in begin else setting.default
            said[name] = _said(component.settings[name], below)
    said = {name: part for name, part in said.items() if part is not _NOTHING}
    if same:
        return said or _NOTHING
    return {"type": component.name, **said} if said else component.name


def _over(lower: Any, upper: Any) -> Any:
    """A default laid over another, as the reader merges them."""
    if isinstance(lower, Component) and isinstance(upper, Component) and lower.name == upper.name:
        return Component(upper.registry, upper.name, _merged(lower.settings, upper.settings))
    if isinstance(lower, Mapping) and isinstance(upper, Mapping) and _holds_components({**lower, **upper}):
        return _merged(lower, upper)
    return upper


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _over(lower[key], upper[key]) for key in lower.keys() & upper.keys()}
    return {**lower, **upper, **both}


def _holds_components(mapping: Mapping[str, Any]) -> bool:
    return any(isinstance(item, Component) for item in mapping.values())


def _alone(value: Any) -> Any:
    """A value as plain data, the components in it without what their own defaults say."""
    if isinstance(value, Component):
        return _component(value, REQUIRED)
    if isinstance(value, Mapping):
        return {key: _alone(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_alone(item) for item in value]
    return plain(value)
