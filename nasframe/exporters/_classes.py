"""The parts of a network as classes: one for all that are alike, which takes what they differ in."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

import torch
from torch import nn

from nasframe.core import layers, ops
from nasframe.exporters._forward import Forward
from nasframe.exporters._layers import Layer
from nasframe.exporters._layout import (
    Call,
    Expr,
    Text,
    UnwritableError,
    attribute,
    class_name,
    comment,
    docstring,
    identifier,
    literal,
    unique,
)
from nasframe.exporters._layout import (
    lines as broken,
)
from nasframe.exporters._parts import Decisions, Own, Part, Sequence, Titled, refused

_OF_MODULE: Final = frozenset(dir(nn.Module)) | {"training"}
_OF_FILE: Final = frozenset({"Network", "Tensor", "Path", "CLASSES", "MEAN", "STD", "WEIGHTS", "DTYPES"})
_REQUIRED: Final = inspect.Parameter.empty
Column: TypeAlias = tuple[Any, ...]
"""A setting's value in each module of a class."""


@final
@dataclass
class Written:
    """A class that is written, and the modules that it makes.

    Attributes:
        name: Of the class.
        forward: Its forward.
        attributes: The name of each part and tensor, by path.
        owns: The modules.
        settings: What each setting of its parts is given, as code, in the order of `_settings`.
        parameters: What it takes: name and values, one for each module.
        defaults: What it takes by itself.
    """

    name: str
    forward: Forward
    attributes: dict[str, str]
    owns: list[Own] = field(default_factory=list)
    settings: list[tuple[str, bool]] = field(default_factory=list)
    parameters: dict[str, Column] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


@final
class Classes:
    """All classes that a network needs.

    Args:
        root: The network; its class is called ``Network``.
        decisions: Are told where their modules are made.
    """

    def __init__(self, root: Own, decisions: Decisions) -> None:
        self._root, self._decisions = root, decisions
        self._of: dict[Own, Written] = {}
        self._by_form: dict[Any, Written] = {}
        self._names = set(_OF_FILE)
        self._collect(root, "Network")
        for written in self._by_form.values():  # parts before what is made of them
            self._settle(written)

    def __iter__(self) -> Iterator[str]:
        """The code of each class."""
        for written in self._by_form.values():
            yield "\n".join(self._code(written))

    @property
    def uses_functional(self) -> bool:
        """Whether a forward calls functions of ``torch.nn.functional``."""
        return any("functional." in line for each in self._by_form.values() for line in each.forward.body)

    def weights(self) -> dict[str, torch.Tensor]:
        """The state of the network that the code makes."""
        return dict(self._state(self._root, ""))

    def _state(self, part: Part, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
        if isinstance(part, Layer):
            for name, tensor in part.module.state_dict().items():
                yield f"{prefix}{name}", tensor
        elif isinstance(part, Sequence):
            for index, each in enumerate(part.parts):
                yield from self._state(each, f"{prefix}{index}.")
        elif isinstance(part, Own):
            attributes = self._of[part].attributes
            for path, tensor in part.tensors.items():
                yield f"{prefix}{attributes[path]}", tensor
            for path, each in part.parts.items():
                yield from self._state(each, f"{prefix}{attributes[path]}.")

    def _collect(self, part: Part, place: str) -> Any:
        """Find the class of each part, and say what parts have in common that are made alike."""
        if isinstance(part, Layer):
            return part.made_by, tuple(part.settings)
        if isinstance(part, Sequence):
            return tuple(self._collect(each, place) for each in part.parts)
        assert isinstance(part, Own)
        if part not in self._of:
            attributes: dict[str, str] = {}
            for path in (*part.tensors, *part.parts):
                taken = {*attributes.values(), *_OF_MODULE}
                attributes[path] = identifier(attribute(path.split(".")), taken)
            inside = tuple(self._collect(each, attributes[path]) for path, each in part.parts.items())
            try:
                forward = Forward(part, attributes)
            except UnwritableError as error:
                raise refused(part.where, str(error)) from error
            tensors = tuple(
                (path, isinstance(tensor, nn.Parameter), len(tensor.shape), tensor.dtype)
                for path, tensor in part.tensors.items()
            )
            name = "Network" if place == "Network" else self._called(part, place)
            form = name, forward.signature, tuple(forward.body), tuple(attributes.values()), tensors, inside
            if form not in self._by_form:
                own_name = name if name == "Network" else class_name(name, self._names)
                self._names.add(own_name)
                self._by_form[form] = Written(own_name, forward, attributes)
            self._of[part] = self._by_form[form]
            self._by_form[form].owns.append(part)
        return id(self._of[part])

    def _called(self, part: Own, place: str) -> str:
        """What a class is called: as that of the module, or as its place where that says nothing."""
        hint = getattr(part.module, "written_as", None)
        if isinstance(hint, str):
            return hint
        return place if type(part.module) is nn.Sequential else type(part.module).__name__.strip("_")

    def _settings(self, part: Part) -> Iterator[tuple[str, Any, Any]]:
        """Name, value and default of each setting that may be given where a part is made."""
        if isinstance(part, Layer):
            yield from ((name, value, part.defaults[name]) for name, value in part.settings.items())
        elif isinstance(part, Sequence):
            for each in part.parts:
                yield from self._settings(each)
        elif isinstance(part, Own):
            written = self._of[part]
            index = written.owns.index(part)
            for name, column in written.parameters.items():
                yield name, column[index], written.defaults.get(name, _REQUIRED)

    def _inner_settings(self, own: Own) -> Iterator[tuple[str, Any, Any]]:
        """Each setting that is given within a class."""
        for tensor in own.tensors.values():
            yield from (("size", size, _REQUIRED) for size in tensor.shape)
        for part in own.parts.values():
            yield from self._settings(part)

    def _settle(self, written: Written) -> None:
        """Find what a class takes, and what it hands on."""
        rows = [list(self._inner_settings(own)) for own in written.owns]
        names = [name for name, _, _ in rows[0]]
        columns = [tuple(row[index][1] for row in rows) for index in range(len(names))]
        called = _names_of(names, columns)
        for (name, _, default), column in zip(rows[0], columns, strict=True):
            if len({(type(value), value) for value in column}) == 1:
                written.settings.append((literal(column[0]), True))
                continue
            known = next((each for each, other in written.parameters.items() if other == column), None)
            code = known or _derived(name, column, written.parameters)
            if code is None:
                code = unique(called[column], {*written.parameters, "self"})
                written.parameters[code] = column
                if _is_among(default, column):
                    written.defaults[code] = default
            written.settings.append((code, False))

    def _code(self, written: Written) -> Iterator[str]:
        first = written.owns[0]
        yield f"class {written.name}(nn.Module):"
        yield f'    """{self._said_of(first.module)}"""'
        yield ""
        own_lines = list(self._init(written))
        if own_lines:
            taken = [f"{name}: {_type_of(written.parameters[name])}" for name in _ordered(written)]
            for index, name in enumerate(_ordered(written)):
                if name in written.defaults:
                    taken[index] += f" = {literal(written.defaults[name])}"
            yield from _definition("__init__", ["self", *taken], "None")
            yield "        super().__init__()"
            yield from own_lines
            yield ""
        yield from _definition("forward", written.forward.signature.split(", "), written.forward.returns)
        yield from written.forward.body

    def _said_of(self, module: nn.Module) -> str:
        """What a class is, in a sentence: as its author says, or who registered what it was chosen by."""
        made_by = type(module)
        title = getattr(module, "written_as", None)
        if isinstance(title, str):
            for registry in (ops, layers):
                if title in registry and (text := docstring(registry[title].__doc__)):
                    return text
        is_torch = made_by is Titled or made_by.__module__.partition(".")[0] == "torch"
        text = "" if is_torch else docstring(vars(made_by).get("__doc__"))
        if module is self._root.module:
            return text or "The whole network."
        return text or ("Layers, one after the other." if is_torch else "A part of the network.")

    def _init(self, written: Written) -> Iterator[str]:
        settings = iter(written.settings)
        first = written.owns[0]
        for path, tensor in first.tensors.items():
            name, shape = written.attributes[path], [next(settings)[0] for _ in tensor.shape]
            size = f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(shape)})"
            empty = f"torch.empty({size}, dtype={literal(tensor.dtype)})"
            if isinstance(tensor, nn.Parameter):
                yield from broken(f"self.{name} = ", Call("nn.Parameter", (Text(empty),)), "", 8)
            else:
                yield f"        self.{name}: Tensor"
                yield from broken("", Call("self.register_buffer", (Text(f'"{name}"'), Text(empty))), "", 8)
        for path, part in first.parts.items():
            sites = [own.module.get_submodule(path) for own in written.owns]
            if (told := self._told(sites)) and not isinstance(first.module, Titled):
                yield f"        # {told}"
            yield from broken(f"self.{written.attributes[path]} = ", self._made(part, settings), "", 8)

    def _told(self, sites: list[nn.Module]) -> str:
        """What was decided at a place in all modules of a class, as a comment; may be empty."""
        told = [self._decisions.get(site, []) for site in sites]
        if all(each == told[0] for each in told):
            return comment(", ".join(f"{choice}: {name}" for choice, name in told[0]))
        names = [[name for _, name in each] for each in told]
        return comment(", ".join(names[0])) if all(each == names[0] for each in names) else ""

    def _made(self, part: Part, settings: Iterator[tuple[str, bool]]) -> Expr:
        """The code that makes a part."""
        if isinstance(part, Layer):
            given: list[tuple[str, str]] = []
            for index, (name, value) in enumerate(part.settings.items()):
                code, is_fixed = next(settings)
                default = part.defaults[name]
                if not (is_fixed and _is_among(default, (value,))):
                    is_told = default is _REQUIRED and _is_positional(index, name, len(given))
                    given.append(("" if is_told else name, code))
            return _call(part.made_by, given)
        if isinstance(part, Sequence):
            comments = tuple(self._told([site]) for site in part.sites)
            return Call(
                "nn.Sequential", tuple(self._made(each, settings) for each in part.parts), comments=comments
            )
        assert isinstance(part, Own)
        written = self._of[part]
        codes = {name: next(settings) for name in written.parameters}
        given = []
        for index, name in enumerate(_ordered(written)):
            code, is_fixed = codes[name]
            if not (is_fixed and name in written.defaults and code == literal(written.defaults[name])):
                is_told = _is_size(name) and _is_positional(index, name, len(given))
                given.append(("" if is_told else name, code))
        return _call(written.name, given)


def _call(head: str, given: list[tuple[str, str]]) -> Call:
    return Call(head, tuple(Text(code) for _, code in given), tuple(name for name, _ in given))


def _is_among(value: Any, column: Column) -> bool:
    """Whether a value is one of several, and of their type."""
    return any(type(each) is type(value) and each == value for each in column)


def _ordered(written: Written) -> list[str]:
    """What a class takes, what it takes by itself at the end."""
    return sorted(written.parameters, key=lambda name: name in written.defaults)


def _is_positional(index: int, name: str, num_before: int) -> bool:
    """Whether an argument is told by its place: sizes of what goes in and out, and the first of others."""
    return index == num_before and index < 2 and (index == 0 or _is_size(name))


def _is_size(name: str) -> bool:
    """Whether a setting is a number of channels or features."""
    return "channels" in name or "features" in name


def _names_of(names: list[str], columns: list[Column]) -> dict[Column, str]:
    """A name for each setting that differs, after all that are given it."""
    found: dict[Column, list[str]] = {}
    for name, column in zip(names, columns, strict=True):
        found.setdefault(column, []).append(name)
    first = next((column for name, column in zip(names, columns, strict=True) if _is_size(name)), None)
    return {
        column: identifier(own[0])
        if not {"in_channels", "out_channels"} <= set(own)
        else "channels" if column == first else "hidden_channels"
        for column, own in found.items()
    }  # fmt: skip


def _derived(name: str, column: Column, parameters: Mapping[str, Column]) -> str | None:
    """A setting as what follows from another: padding from a kernel's size, channels from channels."""
    if not all(type(value) is int for value in column):
        return None
    for other, values in parameters.items():
        if not all(type(value) is int and value > 0 for value in values):
            continue
        pairs = list(zip(column, values, strict=True))
        if "padding" in name and other.startswith("kernel_size"):
            if all(own == value // 2 for own, value in pairs):
                return f"{other} // 2"
            if all(own == value - 1 for own, value in pairs):
                return f"{other} - 1"
        is_size = name == "groups" or _is_size(name)
        if is_size and _is_size(other):
            factor = column[0] // values[0]
            if factor > 1 and all(own == factor * value for own, value in pairs):
                return f"{factor} * {other}"
    return None


def _type_of(column: Column) -> str:
    """The type of a setting's values, as code."""
    kinds = {
        "None" if value is None
        else f"tuple[{', '.join(type(each).__name__ for each in value)}]" if isinstance(value, tuple)
        else type(value).__name__
        for value in column
    }  # fmt: skip
    return " | ".join(sorted(kinds, key=lambda kind: (kind == "None", kind)))


def _definition(name: str, parameters: list[str], returns: str) -> Iterator[str]:
    """The head of a method."""
    yield from broken("", Call(f"def {name}", tuple(map(Text, parameters))), f" -> {returns}:", 4)
