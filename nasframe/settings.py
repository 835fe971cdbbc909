"""The signature is the schema: what a component's ``__init__`` says about its settings.

Positional parameters are what the framework gives; keyword-only parameters are settings.
"""

import inspect
import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import docstring_parser
from pydantic import ConfigDict, TypeAdapter, ValidationError

from nasframe.errors import ComponentError

REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Setting:
    """One keyword-only parameter: name, resolved annotation, default (or `REQUIRED`), meaning."""

    name: str
    annotation: Any
    default: Any
    doc: str

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


@dataclass(frozen=True)
class Signature:
    """What a component takes: ``given`` by the framework in this order, and its ``settings``."""

    given: tuple[str, ...]
    settings: Mapping[str, Setting]
    summary: str


@dataclass(frozen=True)
class LeafProblem:
    """What is wrong inside one value: ``location`` are the keys and indices below the setting."""

    location: tuple[str | int, ...]
    rule: str
    given: Any


def signature_of(factory: Callable[..., Any]) -> Signature:
    """Read the signature of a component class or function.

    Raises:
        ComponentError: A setting has no type, or there are ``*args`` or ``**kwargs``.
    """
    target = factory.__init__ if inspect.isclass(factory) else factory
    label = getattr(factory, "__qualname__", repr(factory))
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except Exception as error:
        raise ComponentError(f"{label}: the types of its parameters cannot be resolved: {error}") from error
    docstring = docstring_parser.parse(inspect.getdoc(factory) or "")
    docs = {param.arg_name: " ".join((param.description or "").split()) for param in docstring.params}
    given: list[str] = []
    settings: dict[str, Setting] = {}
    parameters = list(inspect.signature(target).parameters.values())
    if inspect.isclass(factory):
        parameters = parameters[1:]
        if target is object.__init__:
            parameters = []
    for parameter in parameters:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ComponentError(
                f"{label}: must not take *args or **kwargs, but takes {parameter}; "
                "name each setting after a bare `*`, with its type"
            )
        if parameter.kind is not parameter.KEYWORD_ONLY:
            given.append(name)
        elif name not in hints:
            raise ComponentError(f"{label}: setting `{name}` must have a type; write `{name}: ... = ...`")
        else:
            settings[name] = Setting(name, hints[name], parameter.default, docs.get(name, ""))
    return Signature(tuple(given), settings, docstring.short_description or "")


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    config = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=False)
    try:
        return TypeAdapter(annotation, config=config)
    except Exception:  # a type with a configuration of its own (a model, a dataclass)
        return TypeAdapter(annotation)


def _with_integers(value: Any) -> Any:
    """``1e3`` is a float in YAML; where it is a whole number it may stand for an integer."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    return value


def read_value(annotation: Any, value: Any) -> tuple[Any, list[LeafProblem]]:
    """Check one plain value (as YAML gives it) against a type and its range.

    Text is never taken for a number, nor a number for text or a truth value; lists may stand for
    tuples, and whole floats such as ``1e3`` for integers.

    Returns:
        The value in the annotated type, and what is wrong with it (then the value is as given).
    """
    adapter = _adapter(annotation)
    try:
        return adapter.validate_json(json.dumps(value), strict=True), []
    except ValidationError as error:
        first = error
    try:
        return adapter.validate_json(json.dumps(_with_integers(value)), strict=True), []
    except ValidationError:
        return value, [
            LeafProblem(tuple(item["loc"]), item["msg"], item.get("input", value)) for item in first.errors()
        ]
