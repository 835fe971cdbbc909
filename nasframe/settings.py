"""The signature is the schema: what a component's ``__init__`` says about its settings.

Positional parameters are what the framework gives; keyword-only parameters are settings.
"""

import inspect
import itertools
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import docstring_parser
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from nasframe import problem_kinds as kinds
from nasframe.errors import ComponentError
from nasframe.problem_kinds import ProblemKind
from nasframe.suggestion import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

REQUIRED: Any = inspect.Parameter.empty

_FORMER_KEYS: Final = "__nasframe_former_keys__"


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
    """What a component takes: ``given`` by the framework in this order, and its ``settings``.

    Attributes:
        given: Names of the positional parameters.
        settings: The keyword-only parameters by name.
        summary: The first line of the docstring.
        description: What follows it, up to the parameters.
    """

    given: tuple[str, ...]
    settings: Mapping[str, Setting]
    summary: str
    description: str = ""


@dataclass(frozen=True)
class FormerKeys:
    """What the settings of a component, or the keys of a section, were called before.

    Attributes:
        renamed: The names of now by those of before.
        removed: What to do instead, by the names of settings that are gone.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LeafProblem:
    """What is wrong inside one value.

    Attributes:
        kind: What it has in common with others.
        location: The keys and indices below the setting.
        rule: What must hold.
        given: What stands there.
        advice: The nearest valid value; may be empty.
    """

    kind: ProblemKind
    location: tuple[str | int, ...]
    rule: str
    given: Any
    advice: str = ""


@cache
def signature_of(factory: Callable[..., Any]) -> Signature:
    """Read the signature of a component class or function.

    Raises:
        ComponentError: A setting has no type, or there are ``*args`` or ``**kwargs``.
    """
    label = getattr(factory, "__qualname__", repr(factory))
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target, include_extras=True)
        parameters = list(inspect.signature(target).parameters.values())
    except Exception as error:
        raise ComponentError(f"{label}: the types of its parameters cannot be resolved: {error}") from error
    if inspect.isclass(factory):
        parameters = [] if target is object.__init__ else parameters[1:]
    docstring = docstring_parser.parse(inspect.getdoc(factory) or "")
    docs = {param.arg_name: " ".join((param.description or "").split()) for param in docstring.params}
    given: list[str] = []
    settings: dict[str, Setting] = {}
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
        elif name == "type":
            raise ComponentError(
                f"{label}: `type` names the component in a recipe; call the setting otherwise"
            )
        else:
            settings[name] = Setting(name, hints[name], parameter.default, docs.get(name, ""))
    return Signature(
        tuple(given), settings, docstring.short_description or "", docstring.long_description or ""
    )


def renamed(**names: str) -> Callable[[F], F]:
    """Decorate a component so that recipes may still say former names of its settings.

    Args:
        names: The name of now by the one of before: ``@renamed(lr="alpha_lr")``.

    Raises:
        ComponentError: A name of now is no setting, or one of before is.
    """
    return _with_former_keys(renamed=names)


def removed(**advice: str) -> Callable[[F], F]:
    """Decorate a component so that recipes are told what to do instead of a setting that is gone.

    Args:
        advice: What to do, by the former name: ``@removed(xi="leave it out: the trainer's rate is taken")``.

    Raises:
        ComponentError: It is a setting still.
    """
    return _with_former_keys(removed=advice)


def _with_former_keys(**new: Mapping[str, str]) -> Callable[[F], F]:
    def add(factory: F) -> F:
        known = signature_of(factory).settings
        label = factory.__qualname__
        for former, current in new.get("renamed", {}).items():
            if current not in known:
                raise ComponentError(
                    f"{label}: `{former}` must be renamed to one of its settings, got `{current}`; "
                    f"it has {', '.join(known) or 'none'}"
                )
        for former in itertools.chain(*new.values()):
            if former in known:
                raise ComponentError(
                    f"{label}: `{former}` is a setting, so it must not be a former one as well"
                )
        before = former_keys_of(factory)
        both = {name: {**getattr(before, name), **names} for name, names in new.items()}
        setattr(factory, _FORMER_KEYS, replace(before, **both))
        return factory

    return add


def former_keys_of(factory: Callable[..., Any]) -> FormerKeys:
    """What `renamed` and `removed` said of a component or section; its own only, none that it inherits."""
    found: FormerKeys = vars(factory).get(_FORMER_KEYS, FormerKeys())
    return found


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise ComponentError(f"{annotation!r} cannot be the type of a setting: {error}") from error
    return TypeAdapter(annotation)  # a type with a configuration of its own (a model, a dataclass)


def _with_integers(value: Any) -> Any:
    """``1e3`` is a float in YAML; where it is a whole number it may stand for an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_integers(item) for key, item in value.items()}
    return value


def json_schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the values that `read_value` takes for a type.

    Raises:
        ComponentError: The type is none that a setting can have.
    """
    adapter = _adapter(annotation)
    try:
        return adapter.json_schema(ref_template="#/$defs/{model}")
    except PydanticUserError:
        return {}  # a type of a third party's that says nothing of its schema: anything may stand there


def read_value(annotation: Any, value: Any) -> tuple[Any, list[LeafProblem]]:
    """Check one plain value (as YAML gives it) against a type and its range.

    Text is never taken for a number, nor a number for text or a truth value; lists may stand for
    tuples, and whole floats such as ``1e3`` for integers.

    Returns:
        The value in the annotated type, and what is wrong with it (then the value is as given).

    Raises:
        ComponentError: The type is none that a setting can have.
    """
    adapter = _adapter(annotation)
    for candidate in (value, _with_integers(value)):
        try:
            return adapter.validate_json(json.dumps(candidate), strict=True), []
        except ValidationError as error:
            details = error.errors()
    return value, _problems(annotation, value, details)


def read_python(annotation: Any, value: Any) -> tuple[Any, list[LeafProblem]]:
    """As `read_value`, of a value that is not plain yet, such as a tuple or a path."""
    try:
        given = to_jsonable_python(value)
    except PydanticSerializationError:
        return value, [LeafProblem(kinds.WRONG_TYPE, (), rule_of_type(annotation), value)]
    return read_value(annotation, given)


def mentions(annotation: Any, wanted: Any) -> bool:
    """Whether a type is, or has a part that is, `wanted` of something."""
    if typing.get_origin(annotation) is wanted:
        return True
    return any(mentions(argument, wanted) for argument in typing.get_args(annotation))


def _problems(annotation: Any, value: Any, details: list[Any]) -> list[LeafProblem]:
    """Say in our words what pydantic found; alternatives of a union are one problem, not many."""
    found: dict[tuple[str | int, ...], LeafProblem] = {}
    for detail in details:
        location, part, given = _blamed(annotation, value, detail["loc"])
        kind, rule, advice = kinds.WRONG_TYPE, rule_of_type(part), _nearest(part, given)
        if len(_members(part)) == 1:
            at_part = len(location) == len(detail["loc"])
            kind, rule = _kind_and_rule(part, detail, at_part=at_part)
            if not at_part:  # inside a type with a schema of its own
                location, given, advice = tuple(detail["loc"]), detail["input"], ""
        problem = LeafProblem(kind, location, rule, given, advice)
        found.setdefault(location, problem)
    return list(found.values())


def _blamed(annotation: Any, value: Any, path: Sequence[str | int]) -> tuple[tuple[str | int, ...], Any, Any]:
    """Follow pydantic's path to the part of a value that it blames, but into no alternative of a union.

    Returns:
        Where the part is, its type, and what stands there.
    """
    location: tuple[str | int, ...] = ()
    for key in path:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            annotation = arguments[0]
            origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (tuple, list, Sequence) and isinstance(value, list) and key in range(len(value)):
            key = int(key)
            fixed = origin is tuple and arguments[-1] is not Ellipsis
            annotation = arguments[key if fixed else 0]
        elif origin in (dict, Mapping) and isinstance(value, dict) and key in value:
            annotation = arguments[1]
        else:
            break
        value, location = value[key], (*location, key)
    return location, annotation, value


def _kind_and_rule(annotation: Any, detail: Any, *, at_part: bool) -> tuple[ProblemKind, str]:
    """What pydantic found wrong with a value of a type that is no union."""
    bounds = {
        name: f"{bound:g}" if isinstance(bound, float) else bound
        for name, bound in detail.get("ctx", {}).items()
    }
    rule = _RULES.get(detail["type"], "{message}").format(message=detail["msg"], **bounds)
    if detail["type"] == "literal_error":
        return kinds.NOT_AN_OPTION, rule_of_type(annotation)
    if detail["type"] in _TYPE_ERRORS:
        return kinds.WRONG_TYPE, rule_of_type(annotation) if at_part else rule
    return kinds.OUT_OF_RANGE if detail["type"] in _RULES else kinds.WRONG_TYPE, rule


_RULES = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be finite",
    "multiple_of": "must be a multiple of {multiple_of}",
    "int_type": "must be an int",
    "int_from_float": "must be an int",
    "float_type": "must be a float",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "none_required": "must be null",
    "missing": "must be given",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
}
_TYPE_ERRORS = frozenset(name for name in _RULES if name.endswith("_type")) | {
    "int_from_float",
    "none_required",
    "missing",
}


def marks_of(annotation: Any, value: Any) -> Iterator[tuple[tuple[str | int, ...], Any, Any]]:
    """The marks in a type that have something to say of a value, such as `MustExist`.

    Returns:
        Where in the value, the mark, and what it marks there; a mark has `spelling`, and `wrong`, which
        returns None, or what must hold and advice.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if value is None:
        return
    if origin is Annotated:
        for mark in arguments[1:]:
            if hasattr(mark, "wrong"):
                yield (), mark, value
        yield from marks_of(arguments[0], value)
    elif origin in (typing.Union, types.UnionType):
        for member in arguments:
            yield from marks_of(member, value)
    elif origin in (tuple, list, Sequence) and isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            of_item = arguments[0] if origin is not tuple or arguments[-1] is Ellipsis else arguments[index]
            for location, mark, marked in marks_of(of_item, item):
                yield (index, *location), mark, marked
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        for key, item in value.items():
            for location, mark, marked in marks_of(arguments[1], item):
                yield (key, *location), mark, marked


def _members(annotation: Any) -> list[Any]:
    """The alternatives of a union, without None; the type alone if it is no union."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for member in typing.get_args(annotation) if member is not types.NoneType]
    return [annotation]


def _nearest(annotation: Any, value: Any) -> str:
    """Advice for a value that is nearly one of the allowed ones."""
    members = _members(annotation)
    if value in ("yes", "on", "no", "off") and bool in members:
        return f"write {'true' if value in ('yes', 'on') else 'false'}"
    allowed = [each for member in members for each in _literals(member) if isinstance(each, str)]
    return did_you_mean(value, allowed) if isinstance(value, str) else ""


def _literals(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def rule_of_type(annotation: Any) -> str:
    """What must hold of a value of a type, such as ``must be a positive float``."""
    spelled = spell_type(annotation)
    if spelled.startswith(("one of", "text", "true", "anything", "null")):
        return f"must be {spelled}"
    return f"must be {'an' if spelled[0] in 'aeiou' else 'a'} {spelled}"


def spell_type(annotation: Any) -> str:
    """A type in words, such as ``positive float``, ``one of 1, 2`` or ``list of int or null``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        marked = [mark.spelling for mark in arguments[1:] if hasattr(mark, "spelling")]
        return marked[0] if marked else _spell_range(spell_type(arguments[0]), arguments[1:])
    if origin is typing.Literal and len(arguments) == 1:
        return str(arguments[0])
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        members = [spell_type(member) for member in _members(annotation)]
        return " or ".join([*members, "null"] if types.NoneType in arguments else members)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)}: {', '.join(map(spell_type, arguments))}"
    if origin in (tuple, list, Sequence):
        return f"list of {spell_type(arguments[0])}"
    if origin in (dict, Mapping):
        return f"mapping of {spell_type(arguments[0])} to {spell_type(arguments[1])}"
    if origin is not None:
        return f"{' or '.join(map(spell_type, arguments))} {origin.__name__.lower()}"
    return _NAMES.get(annotation) or str(getattr(annotation, "__name__", annotation))


_NAMES = {str: "text", bool: "true or false", Path: "path", Any: "anything", types.NoneType: "null"}


def _spell_range(spelled: str, constraints: tuple[Any, ...]) -> str:
    bounds = {
        word: getattr(constraint, word)
        for constraint in constraints
        for word in ("gt", "ge", "lt", "le")
        if getattr(constraint, word, None) is not None
    }
    if bounds == {"gt": 0}:
        return f"positive {spelled}"
    if bounds == {"ge": 0}:
        return f"non-negative {spelled}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return f"{spelled} {' and '.join(f'{words[bound]} {value}' for bound, value in bounds.items())}".strip()
