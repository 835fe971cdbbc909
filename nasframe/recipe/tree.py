"""Recipes before they are typed: plain values that remember where they were written, and their merging."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from nasframe.registry import Component

KeyPath: TypeAlias = tuple[str | int, ...]

BROKEN: Final = object()
"""Stands for a value whose problem is reported already; nothing more is said about it."""


@final
@dataclass(frozen=True, order=True)
class Place:
    """Where something was written; lines and columns count from 1, and 0 is the command line's.

    What was written nowhere is a default; its place is that of the mapping that it is missing in.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    is_default: bool = False

    @property
    def folder(self) -> Path:
        """The folder that relative paths written here start from."""
        return Path(self.file).absolute().parent if self.file else Path.cwd()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.file else "command line"


COMMAND_LINE: Final = Place()


@final
@dataclass(frozen=True)
class Node:
    """A value as it was written.

    Attributes:
        value: A mapping of names to nodes, a list of nodes, a scalar, or `BROKEN`.
        at: Where it begins.
        key_at: Where its key begins; the same as `at` for an item of a list, or the whole.
        untyped: Keys of a mapping that were written without a ``type``, under one that was laid over
            them later; they belong to the slot's default, and go if that is of another type.
    """

    value: Any
    at: Place
    key_at: Place
    untyped: frozenset[str] = frozenset()

    @property
    def plain(self) -> Any:
        """The value without places; null for what is broken."""
        if isinstance(self.value, dict):
            return {key: node.plain for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain for node in self.value]
        return None if self.value is BROKEN else self.value

    @property
    def is_broken(self) -> bool:
        """Whether a problem of it, or of a part of it, is reported already."""
        return self.value is BROKEN or any(node.is_broken for _, node in self.items())

    def items(self) -> list[tuple[str | int, "Node"]]:
        """Its parts by key or index; none of a scalar."""
        if isinstance(self.value, dict):
            return list(self.value.items())
        return list(enumerate(self.value)) if isinstance(self.value, list) else []

    def child(self, key: str | int) -> "Node | None":
        """The part at a key or index; digits index a list."""
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(str(key))
            return found
        if isinstance(self.value, list) and str(key).isdecimal() and int(key) < len(self.value):
            item: Node = self.value[int(key)]
            return item
        return None

    def find(self, path: KeyPath) -> "Node | None":
        """The node at a path below this one, if there is one."""
        node: Node | None = self
        for key in path:
            node = node.child(key) if node else None
        return node

    def leaves(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, "Node"]]:
        """Each part that has no parts of its own, with its path."""
        parts = self.items()
        if not parts:
            yield path, self
        for key, node in parts:
            yield from node.leaves((*path, key))

    def map_leaves(self, change: Callable[[KeyPath, "Node"], "Node"], path: KeyPath = ()) -> "Node":
        """The same tree with what `change` makes of each leaf."""
        parts = {key: node.map_leaves(change, (*path, key)) for key, node in self.items()}
        if not parts:
            return change(path, self)
        return replace(self, value=list(parts.values()) if isinstance(self.value, list) else parts)

    def with_child(self, path: KeyPath, new: "Node | None") -> "Node":
        """The same tree with another node (or none) at a path that exists."""
        key, *rest = path
        parts = dict(self.items())
        key = int(key) if isinstance(self.value, list) else key
        if rest:
            parts[key] = parts[key].with_child(tuple(rest), new)
        elif new is None:
            del parts[key]
        else:
            parts[key] = replace(new, key_at=parts[key].key_at)
        return replace(self, value=list(parts.values()) if isinstance(self.value, list) else parts)


def node_of(value: Any, at: Place) -> Node:
    """Plain values and components as a node; all of it is said to be written at one place."""
    if isinstance(value, Component):
        value = {"type": value.name, **value.settings}
    if isinstance(value, Mapping):
        value = {str(key): node_of(item, at) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        value = [node_of(item, at) for item in value]
    elif isinstance(value, Path):
        value = str(value)
    return Node(value, at, at)


def merge(lower: Node, upper: Node, *, one_layer: bool = False) -> Node:
    """Lay one value over another.

    A mapping goes into a mapping key by key, unless both name a ``type`` and not the same one; a bare
    name is a mapping with only a ``type``. On the command line digits are indices of a list.
    Everything else is replaced.

    Args:
        lower: What is below.
        upper: What is laid over it.
        one_layer: Both were said together, so that a ``type`` in one is meant for the other's keys.
    """
    if isinstance(lower.value, list) and _indexes(upper):
        return _merge_items(lower, upper)
    below, above = _as_mapping(lower, beside=upper), _as_mapping(upper, beside=lower)
    if below is None or above is None or (_types_differ(below, above) and not upper.untyped):
        return upper
    if _types_differ(below, above):
        return replace(upper, value={key: node for key, node in above.items() if key not in upper.untyped})
    merged = dict(below)
    for key, node in above.items():
        merged[key] = merge(merged[key], node, one_layer=one_layer) if key in merged else node
    untyped = lower.untyped
    if "type" in above and "type" not in below and not one_layer:
        untyped = frozenset(below)
    at = lower.at if isinstance(lower.value, dict) else upper.at
    return Node(merged, at, lower.key_at, untyped - set(above) | upper.untyped)


def _as_mapping(node: Node, beside: Node) -> dict[str, Node] | None:
    if isinstance(node.value, dict):
        return node.value
    if isinstance(node.value, str) and isinstance(beside.value, dict):
        return {"type": Node(node.value, node.at, node.key_at)}
    return None


def _types_differ(below: dict[str, Node], above: dict[str, Node]) -> bool:
    return "type" in below and "type" in above and below["type"].value != above["type"].value


def _indexes(upper: Node) -> bool:
    if not isinstance(upper.value, dict) or upper.at != COMMAND_LINE:
        return False
    return bool(upper.value) and all(key.isdecimal() for key in upper.value)


def _merge_items(lower: Node, upper: Node) -> Node:
    """Indices that the list doesn't have replace the list, which no slot then accepts."""
    merged = lower
    for key, node in upper.value.items():
        item = lower.child(key)
        if item is None:
            return upper
        merged = merged.with_child((key,), merge(item, node))
    return merged
