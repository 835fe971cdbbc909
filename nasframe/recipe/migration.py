"""Recipes of before: former names become those of now, and each is told; what is gone is refused by name."""

import dataclasses
import typing
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from nasframe import problem_kinds as kinds
from nasframe.errors import ComponentError, FormerNameWarning, Problem
from nasframe.recipe.recipe import INHERITED_FROM, Recipe, inherited_from
from nasframe.recipe.schema import listed_section, settings_of, slot_of
from nasframe.recipe.tree import KeyPath, Node, Place, node_of
from nasframe.registry import Component, Registry, UnknownNameError
from nasframe.settings import FormerKeys, Setting, former_keys_of


def migrated(tree: Node, problems: list[Problem]) -> Node:
    """A recipe under the names of now, each part where it was written.

    Args:
        tree: A whole recipe, in one piece.
        problems: Those that are found are added: what is gone, and what is said by both of its names.

    Warns:
        FormerNameWarning: For each former name.
    """
    migration = _Migration(
        problems, {source: tree.find(tuple(source.split("."))) for source in INHERITED_FROM.values()}
    )
    tree = migration.section(Recipe, tree, ())
    for told in migration.told:
        warnings.warn(told, FormerNameWarning, stacklevel=4)
    return tree


@final
class _Migration:
    """Walks a recipe as it will be read; what it cannot follow is left for the reader to refuse.

    Attributes:
        told: What was renamed, in words.
    """

    def __init__(self, problems: list[Problem], inherited: Mapping[str, Node | None]) -> None:
        self._problems, self._inherited = problems, inherited
        self.told: list[str] = []

    def section(self, section: type, node: Node, path: KeyPath) -> Node:
        """A section of the recipe, or the whole."""
        node = self._keys(former_keys_of(section), f"`{path[-1]}`" if path else "the recipe", node, path)
        return self._settings(settings_of(section), node, path)

    def _settings(self, settings: Mapping[str, Setting], node: Node, path: KeyPath) -> Node:
        if not isinstance(node.value, dict):
            return node
        parts = {
            key: self._setting(settings[key], item, (*path, key)) if key in settings else item
            for key, item in node.value.items()
        }
        return replace(node, value=parts)

    def _setting(self, setting: Setting, node: Node, path: KeyPath) -> Node:
        if dataclasses.is_dataclass(setting.annotation):
            return self.section(typing.cast(type, setting.annotation), node, path)
        if (section := listed_section(setting.annotation)) is not None:
            for key, item in node.items() if isinstance(node.value, list) else []:
                node = node.with_child((key,), self.section(section, item, (*path, key)))
            return node
        form, registry = slot_of(setting.annotation)
        if registry is None:
            return node
        start = None if setting.required else setting.default
        if form in ("one", "optional"):
            return self._component(registry, node, self._start(start, node, path), path)
        starts = start if form == "mapping" and isinstance(start, Mapping) else {}
        for key, item in node.items():
            at = node_of(starts[key], node.at) if key in starts else None
            node = node.with_child((key,), self._component(registry, item, at, (*path, key)))
        return node

    def _start(self, default: Any, node: Node, path: KeyPath) -> Node | None:
        """What the keys of a slot are laid over, if they do not say a type."""
        source = inherited_from(path)
        if source is not None and source in self._inherited:
            return self._inherited[source]
        return node_of(default, node.at) if isinstance(default, Component) else None

    def _component(self, registry: Registry[Any], node: Node, start: Node | None, path: KeyPath) -> Node:
        kind = _kind(node) or (_kind(start) if start else None)
        if kind is None:
            return node
        try:
            name = registry.current(kind.value)
            signature, former = registry.signature(name), former_keys_of(registry[name])
        except (UnknownNameError, ComponentError):
            return node
        if name != kind.value and kind is _kind(node):
            self._tell(kind.at, (*path, "type"), f"`{kind.value}`", name)
            if kind is node:
                return replace(node, value=name)
            node = node.with_child(("type",), replace(kind, value=name))
        return self._settings(signature.settings, self._keys(former, f"`{name}`", node, path), path)

    def _keys(self, former: FormerKeys, owner: str, node: Node, path: KeyPath) -> Node:
        """A mapping under the keys of now."""
        if not isinstance(node.value, dict):
            return node
        parts: dict[str, Node] = {}
        for key, item in node.value.items():
            current = former.renamed.get(key, key)
            rule = advice = ""
            if key in former.removed:
                rule, advice = f"{owner} has no such setting any more", former.removed[key]
                kind = kinds.UNKNOWN_KEY
            elif key != current and current in node.value:
                rule, advice = f"is the former name of `{current}`, which is given too", "leave it out"
                kind = kinds.REPEATED_KEY
            if rule:
                where = ".".join(map(str, (*path, key)))
                self._problems.append(Problem(kind, str(item.key_at), where, rule, "", advice))
                continue
            if key != current:
                self._tell(item.key_at, (*path, key), "", current)
            parts[current] = item
        untyped = frozenset(former.renamed.get(key, key) for key in node.untyped)
        return replace(node, value=parts, untyped=untyped)

    def _tell(self, at: Place, path: KeyPath, name: str, current: str) -> None:
        subject = f"{name} is" if name else "is"
        self.told.append(f"{at}: {'.'.join(map(str, path))}: {subject} called `{current}` now; write that")


def _kind(node: Node) -> Node | None:
    """The node that names the component, if it is a name."""
    kind = node.child("type") if isinstance(node.value, dict) else node
    return kind if kind is not None and isinstance(kind.value, str) else None
