"""The typed tree of a recipe: read from nodes with every problem found, and written as plain data."""

import dataclasses
import json
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar, final

from pydantic_core import to_jsonable_python

from nasframe import problem_kinds as kinds
from nasframe.errors import ComponentError, Problem, RecipeError
from nasframe.problem_kinds import ProblemKind
from nasframe.recipe.pairing import Parts, pairing_problems
from nasframe.recipe.recipe import INHERITED_FROM, Recipe
from nasframe.recipe.tree import BROKEN, KeyPath, Node, Place, merge, node_of
from nasframe.recipe.trial import trial_problems
from nasframe.recipe.yaml_text import dump_yaml
from nasframe.registry import Component, Registry, UnknownNameError, registry_for
from nasframe.settings import REQUIRED, Setting, marks_of, mentions, read_value, signature_of
from nasframe.suggestion import did_you_mean, nearest
from nasframe.types import MustExist, Written

_MAX_MEANT: typing.Final = 3

S = TypeVar("S")

VERSION: Final = 1
"""The version of the recipe format."""


def read_recipe(
    tree: Node, problems: Iterable[Problem] = (), *, check: bool = True, outside: bool = False
) -> tuple[Recipe, dict[KeyPath, Place]]:
    """Read a whole recipe; defaults are filled in down to the last setting.

    Args:
        tree: The recipe as it was written, in one piece.
        problems: Those that are known already.
        check: Also find what a run on this machine would refuse at its start.
        outside: Let it write outside of its folder.

    Returns:
        The recipe, and where each of its values was written, by the paths of `recipe_to_mapping`.

    Raises:
        RecipeError: Something is wrong; it holds all problems.
    """
    reader = _Reader(problems, outside=outside)
    recipe = reader.recipe(tree)
    parts = Parts(tree, reader.parts)
    pairing = list(pairing_problems(parts))
    absent = reader.absent if check else []
    trial = trial_problems(parts, [*pairing, *absent]) if check else []
    if found := [*reader.problems, *pairing, *absent, *trial]:
        raise RecipeError(found)
    read = typing.cast(Recipe, recipe)
    object.__setattr__(read, "places", reader.places)  # the recipe is nobody else's yet
    return read, reader.places


def read_sections(
    section: type[S], tree: Node, problems: Iterable[Problem], whole: str, *, outside: bool = False
) -> S:
    """Read a file that is written as recipes are, but is none.

    Besides what recipes have, its sections may have mappings of names to sections, and parts of recipes,
    which are of type `Node` and not read here.

    Args:
        section: A dataclass, described as those of recipes.
        tree: The file as it was written.
        problems: Those that are known already.
        whole: What the file is, with its article.
        outside: Let it write outside of its folder.

    Raises:
        RecipeError: Something is wrong; it holds all problems.
    """
    reader = _Reader(problems, outside=outside, whole=whole)
    found = reader.whole(section, tree)
    if wrong := [*reader.problems, *reader.absent]:
        raise RecipeError(wrong)
    return typing.cast(S, found)


def recipe_to_mapping(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data, with all settings."""
    mapping: dict[str, Any] = plain(recipe)
    return {"version": VERSION, **mapping}


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML with all settings, which loads again to an equal one."""
    return dump_yaml(recipe_to_mapping(recipe))


def plain(value: Any) -> Any:
    """A section, a component or the value of a setting as plain data."""
    if isinstance(value, Component):
        return {"type": value.name, **{name: plain(item) for name, item in value.settings.items()}}
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value) if field.init)
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return to_jsonable_python(value)


def slot_of(annotation: Any) -> tuple[str, Registry[Any] | None]:
    """What a type holds: ``one``, ``optional``, ``list`` or ``mapping`` of components, or ``leaf``.

    Returns:
        The form, and the registry of the components.

    Raises:
        ComponentError: No registry has such components, or the form is none of these.
    """
    form, argument = _form(annotation)
    if typing.get_origin(argument) is Component:
        (interface,) = typing.get_args(argument)
        registry = registry_for(interface)
        if registry is None:
            raise ComponentError(f"{annotation}: no registry has components of {interface}")
        return form, registry
    if mentions(annotation, Component):
        raise ComponentError(
            f"{annotation}: components must stand alone, or in X | None, tuple[X, ...] or dict[str, X]"
        )
    return "leaf", None


def _form(annotation: Any) -> tuple[str, Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType) and len(arguments) == 2 and types.NoneType in arguments:
        return "optional", next(each for each in arguments if each is not types.NoneType)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return "list", arguments[0]
    if origin is dict and arguments[0] is str:
        return "mapping", arguments[1]
    return "one", annotation


def listed_section(annotation: Any) -> type | None:
    """The section, with slots, that a setting has a list of; None for a setting of another form."""
    form, argument = _form(annotation)
    if form != "list" or not isinstance(argument, type) or not dataclasses.is_dataclass(argument):
        return None
    has_slots = any(mentions(field.type, Component) for field in dataclasses.fields(argument))
    return argument if has_slots else None


def _section_in(annotation: Any) -> type | None:
    """The section of which a type has one by each name."""
    form, argument = _form(annotation)
    is_section = form == "mapping" and dataclasses.is_dataclass(argument)
    return typing.cast(type, argument) if is_section else None


def settings_of(section: type) -> dict[str, Setting]:
    """The settings of a section of the recipe, with their meanings."""
    docs = signature_of(section).settings
    found = {}
    for field in dataclasses.fields(section):
        if not field.init:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        default = REQUIRED if default is dataclasses.MISSING else default
        found[field.name] = replace(docs[field.name], default=default)
    return found


def slots_of_recipe(section: type = Recipe) -> Iterator[tuple[tuple[str, ...], str, Registry[Any]]]:
    """Where components stand in a recipe: path, form (see `slot_of`) and registry."""
    for name, setting in settings_of(section).items():
        if dataclasses.is_dataclass(setting.annotation):
            for path, form, registry in slots_of_recipe(typing.cast(type, setting.annotation)):
                yield (name, *path), form, registry
        else:
            form, found = slot_of(setting.annotation)
            if found is not None:
                yield (name,), form, found


@final
class _Reader:
    """Reads nodes by the types of their slots; what has a problem is read as `BROKEN`.

    Attributes:
        problems: What is wrong.
        absent: What would be right on a machine that has the files that are named.
        parts: Values and components that are valid alone, by path.
        places: Where each value was written: of a component its ``type``, of a list of components each
            item, or the list if it is empty.
    """

    def __init__(self, problems: Iterable[Problem], *, outside: bool, whole: str = "the recipe") -> None:
        self.problems, self._outside, self._name = list(problems), outside, whole
        self.absent: list[Problem] = []
        self.parts: dict[str, Any] = {}
        self.places: dict[KeyPath, Place] = {}
        self._said: set[tuple[str, str, str]] = set()
        self._unknown: list[tuple[str, Place, KeyPath, list[str]]] = []

    def say(
        self, kind: ProblemKind, at: Place, path: KeyPath, rule: str, given: str = "", advice: str = ""
    ) -> None:
        """Add a problem, once where an inherited value is read in two places."""
        key = (f"{at} {path[-1:]}", rule, given)
        if key not in self._said:
            self._said.add(key)
            self.problems.append(Problem(kind, str(at), ".".join(map(str, path)), rule, given, advice))

    def recipe(self, tree: Node) -> Any:
        """The recipe, or `BROKEN`."""
        return self.whole(Recipe, _inherited(tree))

    def whole(self, section: type, tree: Node) -> Any:
        """A whole file, or `BROKEN`."""
        found = self._section(section, self._checked_version(tree), ())
        self._say_unknown()
        return found

    def _checked_version(self, tree: Node) -> Node:
        version = tree.child("version")
        self.places["version",] = version.at if version else _default_in(tree)
        if version is None:
            return tree
        if version.value != VERSION and not version.is_broken:
            advice = f"{self._name} without `version` is of the present one".replace("the ", "a ", 1)
            if type(version.value) is int and version.value > VERSION:
                advice = "it was written for a newer nasframe: pip install --upgrade nasframe"
            given = spell_value(version.plain)
            self.say(kinds.OTHER_VERSION, version.at, ("version",), f"must be {VERSION}", given, advice)
        return tree.with_child(("version",), None)

    def _section(self, section: type, node: Node, path: KeyPath) -> Any:
        entries = self._entries(node, path)
        if entries is None:
            return BROKEN
        settings = settings_of(section)
        known = self._refuse_unknown(entries, settings, self._name if not path else f"`{path[-1]}`", path)
        values = self._settings(settings, node, path)
        whole = {name: value for name, value in values.items() if not _is_broken(value)}
        self.parts.update({".".join(map(str, (*path, name))): value for name, value in whole.items()})
        return section(**values) if known and len(whole) == len(values) else BROKEN

    def _entries(self, node: Node, path: KeyPath) -> dict[str, Node] | None:
        if isinstance(node.value, dict):
            return node.value
        if not node.is_broken:
            self.say(kinds.WRONG_TYPE, node.at, path, "must be a mapping", spell_value(node.plain))
        return None

    def _refuse_unknown(
        self, entries: Mapping[str, Node], known: Iterable[str], owner: str, path: KeyPath
    ) -> bool:
        """Whether all keys are known."""
        names = sorted(known)
        for key, node in entries.items():
            if key not in names:
                self._unknown.append((owner, node.key_at, (*path, key), names))
        return set(entries) <= set(names)

    def _say_unknown(self) -> None:
        """Tell of the unknown keys, now that it is known what the recipe has elsewhere."""
        paths = [path[:-1] if path[-1] == "type" else path for path in self.places]
        for owner, at, (*above, last), names in self._unknown:
            key = str(last)
            below = [path for path in paths if list(path[: len(above)]) == above]
            same = [path for path in below if path[-1] == key] or [path for path in paths if path[-1] == key]
            advice = _meant(same) or did_you_mean(key, names)
            if not advice:
                similar = nearest(key, {str(path[-1]) for path in below})
                advice = _meant([path for path in below if path[-1] == similar])
            advice = advice or f"it has {_listed(names)}"
            self.say(kinds.UNKNOWN_KEY, at, (*above, key), f"{owner} has no such setting", "", advice)

    def _settings(self, settings: Mapping[str, Setting], node: Node, path: KeyPath) -> dict[str, Any]:
        return {name: self._setting(setting, node, (*path, name)) for name, setting in settings.items()}

    def _setting(self, setting: Setting, parent: Node, path: KeyPath) -> Any:
        """One setting of the mapping `parent`: what is given, laid over the default."""
        given = parent.child(setting.name)
        if given is None and setting.required:
            self._say_missing(setting, parent, path)
            return BROKEN
        if given is not None and given.value is BROKEN:
            return BROKEN
        if setting.annotation is Node:
            part = given or Node({}, parent.key_at, parent.key_at)
            return BROKEN if self._entries(part, path) is None else part
        if dataclasses.is_dataclass(setting.annotation):
            empty = Node({}, parent.key_at, parent.key_at)
            return self._section(typing.cast(type, setting.annotation), given or empty, path)
        if (section := listed_section(setting.annotation)) is not None:
            return self._sections(section, self._over_default(setting, given, parent), path)
        if (section := _section_in(setting.annotation)) is not None:
            entries = self._entries(given, path) if given else {}
            if entries is None:
                return BROKEN
            return {name: self._section(section, item, (*path, name)) for name, item in entries.items()}
        form, registry = slot_of(setting.annotation)
        if registry is None:
            self.places[path] = given.at if given else _default_in(parent)
            return self._leaf(setting.annotation, given, path) if given else setting.default
        return self._slot(form, registry, self._over_default(setting, given, parent), path)

    def _sections(self, section: type, node: Node, path: KeyPath) -> Any:
        """A list of sections, or `BROKEN`."""
        if not isinstance(node.value, list):
            if not node.is_broken:
                rule = "must be a list of mappings"
                self.say(kinds.WRONG_TYPE, node.at, path, rule, spell_value(node.plain))
            return BROKEN
        if not node.value:
            self.places[path] = node.at
        found = [self._section(section, item, (*path, index)) for index, item in enumerate(node.value)]
        return BROKEN if any(each is BROKEN for each in found) else tuple(found)

    def _say_missing(self, setting: Setting, parent: Node, path: KeyPath) -> None:
        advice = ""
        if not dataclasses.is_dataclass(setting.annotation) and _section_in(setting.annotation) is None:
            _, registry = slot_of(setting.annotation)
            if registry is not None:
                advice = f"{registry.name} has {_listed(registry.names())}"
        self.say(kinds.MISSING_KEY, parent.key_at, path, "must be given", "", advice)

    def _over_default(self, setting: Setting, given: Node | None, parent: Node) -> Node:
        if setting.required or setting.default is None:
            return given or Node(None, _default_in(parent), parent.key_at)
        default = node_of(setting.default, _default_in(parent))
        return merge(default, given) if given else default

    def _slot(self, form: str, registry: Registry[Any], node: Node, path: KeyPath) -> Any:
        if not node.value:
            self.places[path] = node.at
        if form == "optional" and node.value is None:
            return None
        if form in ("one", "optional"):
            return self._component(registry, node, path)
        if form == "mapping":
            entries = self._entries(node, path)
            if entries is None:
                return BROKEN
            return {key: self._component(registry, item, (*path, key)) for key, item in entries.items()}
        if not isinstance(node.value, list):
            rule = f"must be a list of names, or of mappings with a `type`, from {registry.name}"
            if not node.is_broken:
                given = spell_value(node.plain)
                advice = f"write [{node.value}]" if isinstance(node.value, str) and node.value else ""
                self.say(kinds.WRONG_TYPE, node.at, path, rule, given, advice)
            return BROKEN
        return tuple(self._component(registry, item, (*path, index)) for index, item in enumerate(node.value))

    def _component(self, registry: Registry[Any], node: Node, path: KeyPath) -> Any:
        """A component, or `BROKEN`."""
        if isinstance(node.value, str):
            node = Node({"type": node}, node.at, node.key_at)
        kind = node.child("type") if isinstance(node.value, dict) else None
        if kind is None or not isinstance(kind.value, str):
            self._say_no_name(registry, node, kind, path)
            return BROKEN
        self.places[*path, "type"] = kind.at
        try:
            settings = registry.signature(kind.value).settings
        except (UnknownNameError, ComponentError) as error:
            self._say_unusable(registry, kind, (*path, "type"), error)
            return BROKEN
        entries = {key: item for key, item in node.value.items() if key != "type"}
        known = self._refuse_unknown(entries, settings, f"`{kind.value}`", path)
        try:
            values = self._settings(settings, node, path)
        except ComponentError as error:
            self._say_unusable(registry, kind, (*path, "type"), error)
            return BROKEN
        whole = known and not _is_broken(list(values.values()))
        return Component(registry.name, kind.value, values) if whole else BROKEN

    def _say_no_name(self, registry: Registry[Any], node: Node, kind: Node | None, path: KeyPath) -> None:
        names = f"{registry.name} has {_listed(registry.names())}"
        if isinstance(node.value, dict) and kind is None:
            nearly = nearest("type", node.value)
            advice = f"did you mean `type` by `{nearly}`? {names}" if nearly else names
            self.say(kinds.NO_NAME, node.key_at, (*path, "type"), "must be given", "", advice)
        elif kind is not None and not kind.is_broken:
            given = spell_value(kind.plain)
            self.say(kinds.NO_NAME, kind.at, (*path, "type"), "must be a name", given, names)
        elif kind is None and not node.is_broken:
            rule = "must be a name, or a mapping with a `type`"
            self.say(kinds.NO_NAME, node.at, path, rule, spell_value(node.plain), names)

    def _say_unusable(self, registry: Registry[Any], kind: Node, path: KeyPath, error: Exception) -> None:
        if isinstance(error, UnknownNameError):
            rule = f"must be one of the {registry.name}"
            self.say(kinds.UNKNOWN_NAME, kind.at, path, rule, f"`{error.name}`", error.advice)
        else:
            self.say(kinds.UNUSABLE_COMPONENT, kind.at, path, f"must be usable, but {error}")

    def _leaf(self, annotation: Any, node: Node, path: KeyPath) -> Any:
        if node.is_broken:
            return BROKEN
        value, wrong = read_value(annotation, node.plain)
        for problem in wrong:
            at = node.find(problem.location) or node
            given = spell_value(problem.given)
            where = (*path, *problem.location)
            self.say(problem.kind, at.at, where, problem.rule, given, problem.advice)
        if wrong:
            return BROKEN
        value = _with_absolute_paths(value, node)
        return value if self._fits_marks(annotation, value, node, path) else BROKEN

    def _fits_marks(self, annotation: Any, value: Any, node: Node, path: KeyPath) -> bool:
        """Whether a value is what marks in its type ask for; a file may be absent."""
        fits = True
        for location, mark, marked in marks_of(annotation, value):
            at = (node.find(location) or node).at
            if isinstance(mark, Written):
                free = self._outside or not at.file  # what the command line names may be anywhere
                found = None if free else mark.wrong(marked, (at.folder, Path.cwd()))
            else:
                found = mark.wrong(marked)
            if found is not None:
                rule, advice = found
                if isinstance(mark, MustExist):
                    where = ".".join(map(str, (*path, *location)))
                    self.absent.append(Problem(mark.kind, str(at), where, rule, "", advice))
                else:
                    self.say(mark.kind, at, (*path, *location), rule, spell_value(marked), advice)
                    fits = False
        return fits


def _meant(paths: list[KeyPath]) -> str:
    """The question whether one of the paths is meant; empty if there is none, or too many."""
    if not 0 < len(paths) <= _MAX_MEANT:
        return ""
    at_top = " at the top of the recipe" if all(len(path) == 1 for path in paths) else ""
    return f"did you mean {' or '.join('`' + '.'.join(map(str, path)) + '`' for path in paths)}{at_top}?"


def _default_in(parent: Node) -> Place:
    """The place of what a mapping does not say."""
    return replace(parent.key_at, is_default=True)


def _is_broken(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return value is BROKEN or any(map(_is_broken, parts))


def _inherited(tree: Node) -> Node:
    """Lay what a slot says over what it inherits; see `INHERITED_FROM`."""
    for target, source in INHERITED_FROM.items():
        if (lower := tree.find(tuple(source.split(".")))) is not None:
            tree = _laid_over(tree, target.split("."), lower)
    return tree


def _laid_over(node: Node, path: Sequence[str], lower: Node) -> Node:
    """The same tree whose slot at a path lies over `lower`; sections that are not there begin to be."""
    key, *rest = path
    if key == "*":
        items = node.value if isinstance(node.value, list) else []
        return replace(node, value=[_laid_over(item, rest, lower) for item in items]) if items else node
    if not isinstance(node.value, dict):
        return node
    own = node.child(key)
    if own is None and "*" in rest:
        return node
    if rest:
        part = _laid_over(own or Node({}, node.key_at, node.key_at), rest, lower)
    else:
        part = merge(lower, own) if own else lower
    return replace(node, value={**node.value, key: part})


def _with_absolute_paths(value: Any, node: Node) -> Any:
    """Relative paths start from the folder of the file that they are written in."""
    if isinstance(value, Path):
        # the home of a user who is not there stays as it is written, as in a shell
        return Path(os.path.abspath(node.at.folder / os.path.expanduser(value)))
    if isinstance(value, (list, tuple)) and isinstance(node.value, list):
        items = [_with_absolute_paths(item, part) for item, part in zip(value, node.value, strict=True)]
        return type(value)(items)
    if isinstance(value, dict):
        return {key: _with_absolute_paths(item, node.child(key) or node) for key, item in value.items()}
    return value


def spell_value(value: Any) -> str:
    """A value as a recipe would say it, cut where it is long."""
    text = f"`{value}`" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
