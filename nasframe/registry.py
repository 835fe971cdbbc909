"""Names of components, built in and from third parties, and the `Component` that a recipe holds.

Built-ins register with a decorator in a module of the registry's package. A third party declares an
entry point in the group ``nasframe.<registry>``; its name is known without importing it.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeVar

from nasframe.declarations import Declaration, declarations, told_if_long
from nasframe.errors import ComponentError, FormerNameWarning, NasframeError, SettingError
from nasframe.problem_kinds import UNKNOWN_NAME, ProblemKind
from nasframe.settings import Signature, marks_of, mentions, read_python, rule_of_type, signature_of
from nasframe.suggestion import nearest

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

registries: dict[str, "Registry[Any]"] = {}
"""Every registry by name, in the order in which they are declared."""

BUILT_IN = "nasframe"

_IS_CHECKING: Final = "__nasframe_is_checking__"
_LEGAL_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


class UnknownNameError(NasframeError, LookupError):
    """No component has this name; `names` are those that exist, `nearest` the closest of them.

    Attributes:
        advice: What to do.
    """

    def __init__(
        self, registry: str, name: str, names: list[str], nearest: str | None, advice: str | None = None
    ) -> None:
        self.registry, self.name, self.names, self.nearest = registry, name, names, nearest
        hint = f"did you mean `{nearest}`? " if nearest else ""
        self.advice = advice or f"{hint}available: {', '.join(names) or 'none'}"
        super().__init__(f"{registry}: no `{name}`; {self.advice}")


@dataclass(frozen=True)
class Component(Generic[T]):
    """A component that is named and configured, but not built yet.

    Attributes:
        registry: The registry that `name` is looked up in.
        name: Its registered name.
        settings: Its settings; after a recipe was read, all of them.
    """

    registry: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __call__(self, *given: Any) -> T:
        """Build it from what the framework gives, by position."""
        factory: Callable[..., T] = registries[self.registry][self.name]
        return factory(*given, **self.settings)

    def __reduce__(self) -> tuple[Any, ...]:
        return Component, (self.registry, self.name, dict(self.settings))


@dataclass(frozen=True)
class NameIn:
    """Marks a text that must be the name of a component.

    Attributes:
        registry: Such as ``ops``.
    """

    registry: str
    kind: ClassVar[ProblemKind] = UNKNOWN_NAME

    @property
    def spelling(self) -> str:
        return f"name of one of the {self.registry}"

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return {**handler(schema), "enum": registries[self.registry].names()}

    def wrong(self, name: str) -> tuple[str, str] | None:
        """What must hold and advice, if it does not."""
        registry = registries[self.registry]
        if name in registry:
            return None
        return f"must be one of the {self.registry}", registry.unknown(name).advice


class Registry(Generic[T]):
    """The components of one sort, by name.

    Args:
        name: Such as ``algorithms``; the built-ins live in the package ``nasframe.<name>``.
        interface: What each component is or returns; a setting of type ``Component[interface]``
            names a component of this registry.
        given: The positional parameters of every component here, in order.
    """

    def __init__(self, name: str, interface: type[T], given: tuple[str, ...] = ()) -> None:
        if name in registries:
            raise ComponentError(f"registry `{name}` exists already")
        self.name, self.interface, self.given = name, interface, given
        self._registered: dict[str, Callable[..., T]] = {}
        self._origins: dict[str, str] = {}
        self._former: dict[str, str] = {}
        self._removed: dict[str, str] = {}
        self._loaded: dict[Declaration, Callable[..., T]] = {}
        self._built_ins_imported = False
        registries[name] = self

    def register(self, name: str, *, formerly: Iterable[str] = ()) -> Callable[[F], F]:
        """Decorate a class or function to register it under `name`.

        Args:
            name: What recipes call it.
            formerly: Names that it had before. Recipes may still say them; where entry points declare
                it, each of them keeps its line.

        Raises:
            ComponentError: A name is taken, or the signature is not that of a component.
        """
        former = dict.fromkeys(formerly, name)
        if not _LEGAL_NAME.fullmatch(str(name)):
            raise ComponentError(
                f"{self.name}: a name must be letters, digits, `_` and `-`, but is {name!r}; "
                f'write @{self.name}.register("my_name")'
            )

        def add(factory: F) -> F:
            built_in = f"{factory.__module__}.".startswith(f"{self.group}.")
            if not built_in:
                self._import_built_ins()  # so that a third party that takes a built-in's name is told so
            if name in self._registered:
                other = self._registered[name]
                raise ComponentError(
                    f"{self.name}: `{name}` is taken by {other.__module__}.{other.__qualname__}; "
                    f"register {factory.__module__}.{factory.__qualname__} under another name"
                )
            for each in [*({name} & set(self._former)), *(set(former) & set(self._registered))]:
                raise ComponentError(
                    f"{self.name}: `{each}` cannot be a component and a former name of another; "
                    f"register {factory.__module__}.{factory.__qualname__} without it"
                )
            self._check(name, factory)
            checked = _checking(self.name, name, factory)
            self._registered[name] = checked
            self._former |= former
            self._origins[name] = BUILT_IN if built_in else factory.__module__
            return checked

        return add

    def remove(self, name: str, advice: str) -> None:
        """Say what to do instead of a component that is gone."""
        self._removed[name] = advice

    def _check(self, name: str, factory: Callable[..., Any]) -> Signature:
        if not callable(factory):
            raise ComponentError(f"{self.name}: `{name}` must be a class or function, but is {factory!r}")
        signature = signature_of(factory)
        if signature.given != self.given:
            raise ComponentError(
                f"{self.name}: `{name}` must take {self._spell(self.given)} by position, "
                f"but takes {self._spell(signature.given)}; settings come after a bare `*`"
            )
        return signature

    @staticmethod
    def _spell(names: tuple[str, ...]) -> str:
        return f"({', '.join(names)})" if names else "nothing"

    @property
    def group(self) -> str:
        """The group of entry points that third parties declare their components in."""
        return f"nasframe.{self.name}"

    def _import_built_ins(self) -> None:
        if self._built_ins_imported or importlib.util.find_spec(self.group) is None:
            return
        self._built_ins_imported = True  # now, because they may look up one another
        try:
            package = importlib.import_module(self.group)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.group}.{module.name}")
        except BaseException:
            self._built_ins_imported = False
            raise

    def third_party_names(self) -> list[str]:
        """The names that distributions declare by entry points, sorted."""
        return sorted(self._declared())

    def _declared(self) -> dict[str, list[Declaration]]:
        return declarations(self.group)

    def names(self) -> list[str]:
        """All names, sorted, without importing any third party's module."""
        self._import_built_ins()
        return sorted({*self._registered, *self._declared()})

    def current(self, name: str) -> str:
        """What the component is called now; `name` itself if that is no former one.

        Raises:
            ComponentError: A third party declares the name, and cannot be imported.
        """
        self._import_built_ins()
        if name in self._declared():
            self[name]  # only its module says whether the name is a former one
        return self._former.get(name, name)

    def unknown(self, name: str) -> UnknownNameError:
        """The error for a name that no component has."""
        names = self.names()
        meant = self._former.get(name) or nearest(name, names)
        return UnknownNameError(self.name, name, names, meant, self._removed.get(name))

    def origin(self, name: str) -> str:
        """The distribution (or module) that `name` comes from; several are joined by `` and ``."""
        self._import_built_ins()
        sources = [declaration.source for declaration in self._declared().get(name, [])]
        if name in self._registered and (not sources or self._origins[name] == BUILT_IN):
            sources.insert(0, self._origins[name])
        return " and ".join(sources)

    def __getitem__(self, name: str) -> Callable[..., T]:
        """The class or function registered as `name`; imports the plugin that declares it.

        Raises:
            UnknownNameError: No such name.
            ComponentError: Two distributions claim the name, or its plugin cannot be imported.
        """
        self._import_built_ins()
        declared = self._declared().get(name, [])
        registered = self._registered.get(name)
        if not declared:
            if registered is None and name in self._former:
                text = f"{self.name}: `{name}` is called `{self._former[name]}` now"
                warnings.warn(text, FormerNameWarning, stacklevel=2)
                return self[self._former[name]]
            if registered is None:
                raise self.unknown(name)
            return registered
        is_known = len(declared) == 1 and declared[0] in self._loaded
        if not is_known and (obstacle := self.obstacle(name)) is not None:
            raise ComponentError(obstacle)
        factory = self._load(name, declared[0])
        decorated = self._registered.get(name, factory)
        if decorated is not factory:
            raise ComponentError(self._claimed(name, f"{declared[0].source} and {decorated.__module__}"))
        return factory

    def obstacle(self, name: str) -> str | None:
        """Why a third party's component cannot be used, as far as is known without importing it.

        Two distributions claim its name, or one that of a built-in; it is half-installed, or built for
        another plugin API.
        """
        self._import_built_ins()
        declared = self._declared().get(name, [])
        if not declared:
            return None
        if len(declared) > 1 or self._origins.get(name) == BUILT_IN:
            return self._claimed(name, self.origin(name))
        obstacle = declared[0].obstacle()
        return None if obstacle is None else f"{self.name}: `{name}` of {declared[0].source} {obstacle}"

    def _claimed(self, name: str, claimants: str) -> str:
        others = claimants.removeprefix(f"{BUILT_IN} and ")
        which = others if others != claimants else "one of them"
        return (
            f"{self.name}: `{name}` is claimed by {claimants}; "
            f"uninstall {which}, or ask its author for another name"
        )

    def _load(self, name: str, declaration: Declaration) -> Callable[..., T]:
        if declaration not in self._loaded:
            what = f"{self.name}: `{name}` of {declaration.source}"
            with _forgetting_failures():
                try:
                    with told_if_long(what):
                        factory: Callable[..., T] = declaration.load()
                except (Exception, SystemExit) as error:
                    raise ComponentError(
                        f"{what} cannot be imported: {type(error).__name__}: {error}; "
                        f"repair or uninstall {declaration.source}"
                    ) from error
                self._check(name, factory)
            self._loaded[declaration] = _checking(self.name, name, factory)
        return self._loaded[declaration]

    def signature(self, name: str) -> Signature:
        """What the component `name` takes."""
        return signature_of(self[name])

    def component(self, name: str, **settings: Any) -> Component[T]:
        """A component of this registry, looked up when it is built."""
        return Component(self.name, name, settings)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())


@contextmanager
def _forgetting_failures() -> Iterator[None]:
    """If a plugin fails after it registered something by decorator, that is forgotten."""
    before = {registry: set(registry._registered) for registry in registries.values()}
    try:
        yield
    except BaseException:
        for registry, names in before.items():
            for name in set(registry._registered) - names:
                if registry._origins[name] != BUILT_IN:
                    del registry._registered[name]
                    registry._former = {old: new for old, new in registry._former.items() if new != name}
        raise


def registry_for(interface: Any) -> Registry[Any] | None:
    """The registry whose components are, or return, `interface`."""
    return next((each for each in registries.values() if each.interface is interface), None)


def _checking(registry: str, name: str, factory: F) -> F:
    """A component that checks its settings wherever it is built, as a recipe does.

    A class stays the same one, with another ``__init__``.
    """
    signature = signature_of(factory)
    build: Callable[..., Any] = factory.__init__ if inspect.isclass(factory) else factory
    if not signature.settings or getattr(build, _IS_CHECKING, False):
        return factory

    @functools.wraps(build)
    def checked(*given: Any, **settings: Any) -> Any:
        problems: list[str] = []
        for key in settings.keys() & signature.settings.keys():
            settings[key] = _checked(signature.settings[key].annotation, settings[key], key, problems)
        if problems:
            raise SettingError(f"{registry}: `{name}`: {'; '.join(sorted(problems))}")
        return build(*given, **settings)

    setattr(checked, _IS_CHECKING, True)
    if not inspect.isclass(factory):
        return typing.cast(F, checked)
    factory.__init__ = checked  # type: ignore[method-assign]
    return factory


def _checked(annotation: Any, value: Any, path: str, problems: list[str]) -> Any:
    """The value of a setting in its type; what is wrong with it is added to `problems`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Component:
        _check_component(arguments[0], value, path, problems)
    elif not mentions(annotation, Component):
        return _checked_leaf(annotation, value, path, problems)
    elif origin in (typing.Union, types.UnionType) and value is not None:
        return _checked(next(each for each in arguments if each is not types.NoneType), value, path, problems)
    elif origin is tuple and isinstance(value, (list, tuple)):
        items = (_checked(arguments[0], item, f"{path}.{key}", problems) for key, item in enumerate(value))
        return tuple(items)
    elif origin is dict and isinstance(value, Mapping):
        return {key: _checked(arguments[1], item, f"{path}.{key}", problems) for key, item in value.items()}
    elif value is not None or types.NoneType not in arguments:
        problems.append(f"{path} {rule_of_type(annotation)}, got {value!r}")
    return value


def _checked_leaf(annotation: Any, value: Any, path: str, problems: list[str]) -> Any:
    if annotation is Any:
        return value
    read, wrong = read_python(annotation, value)
    for each in wrong:
        where = ".".join(map(str, (path, *each.location)))
        advice = f" ({each.advice})" if each.advice else ""
        problems.append(f"{where} {each.rule}, got {each.given!r}{advice}")
    if wrong:
        return value
    for location, mark, marked in marks_of(annotation, read):
        if not isinstance(marked, Path) and (found := mark.wrong(marked)) is not None:
            rule, advice = found  # of a file that is absent, who opens it says so
            problems.append(f"{'.'.join(map(str, (path, *location)))} {rule}, got `{marked}` ({advice})")
    return read


def _check_component(interface: Any, value: Any, path: str, problems: list[str]) -> None:
    registry = registry_for(interface)
    if registry is None:
        return  # the recipe's reader tells the author
    if not isinstance(value, Component) or value.registry != registry.name:
        rule = f"must be a component of the {registry.name}"
        advice = f'write nasframe.registries["{registry.name}"].component("NAME")'
        problems.append(f"{path} {rule}, got {value!r} ({advice})")
        return
    try:
        known = registry.signature(value.name).settings
    except UnknownNameError as error:
        problems.append(f"{path} must be one of the {registry.name}, got `{value.name}` ({error.advice})")
        return
    for key, item in value.settings.items():
        if key in known:
            _checked(known[key].annotation, item, f"{path}.{key}", problems)
        else:
            has = ", ".join(known) or "none"
            problems.append(f"{path}.{key}: `{value.name}` has no such setting (it has {has})")
    missing = [key for key, setting in known.items() if setting.required and key not in value.settings]
    problems += [f"{path}.{key} must be given" for key in missing]
