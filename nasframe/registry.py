"""Names of components, built in and from third parties, and the `Component` that a recipe holds.

Built-ins register with a decorator in a module of the registry's package. A third party declares an
entry point in the group ``nasframe.<registry>``; its name is known without importing it.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import entrypoints

from nasframe.errors import ComponentError, NasframeError
from nasframe.settings import Signature, signature_of

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

registries: dict[str, "Registry[Any]"] = {}
"""Every registry by name, in the order in which they are declared."""

BUILT_IN = "nasframe"


class UnknownNameError(NasframeError, LookupError):
    """No component has this name; `names` are those that exist, `nearest` the closest of them."""

    def __init__(self, registry: str, name: str, names: list[str], nearest: str | None) -> None:
        self.registry, self.name, self.names, self.nearest = registry, name, names, nearest
        hint = f"did you mean `{nearest}`? " if nearest else ""
        super().__init__(f"{registry}: no `{name}`; {hint}available: {', '.join(names) or 'none'}")


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
        self._loaded: dict[str, Callable[..., T]] = {}
        self._built_ins_imported = False
        registries[name] = self

    def register(self, name: str) -> Callable[[F], F]:
        """Decorate a class or function to register it under `name`.

        Raises:
            ComponentError: The name is taken, or the signature is not that of a component.
        """

        def add(factory: F) -> F:
            if name in self._registered:
                other = self._registered[name]
                raise ComponentError(
                    f"{self.name}: `{name}` is taken by {other.__module__}.{other.__qualname__}; "
                    f"register {factory.__module__}.{factory.__qualname__} under another name"
                )
            self._check(name, factory)
            self._registered[name] = factory
            package = f"nasframe.{self.name}"
            built_in = factory.__module__ == package or factory.__module__.startswith(f"{package}.")
            self._origins[name] = BUILT_IN if built_in else factory.__module__
            return factory

        return add

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
        if self._built_ins_imported:
            return
        self._built_ins_imported = True
        package = importlib.import_module(self.group)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.group}.{module.name}")

    def entry_points(self) -> dict[str, list[entrypoints.EntryPoint]]:
        """Entry points of this group by name; two of one name are two distributions that claim it."""
        found: dict[str, list[entrypoints.EntryPoint]] = {}
        seen: set[tuple[str, str, str]] = set()
        for point in entrypoints.get_group_all(self.group):
            key = (point.name, distribution_of(point), f"{point.module_name}:{point.object_name}")
            if key not in seen:
                seen.add(key)
                found.setdefault(point.name, []).append(point)
        return found

    def names(self) -> list[str]:
        """All names, sorted, without importing any third party's module."""
        self._import_built_ins()
        return sorted({*self._registered, *self.entry_points()})

    def nearest(self, name: str) -> str | None:
        """The name that is spelled most like `name`, if one is close."""
        return next(iter(difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)), None)

    def origin(self, name: str) -> str:
        """The distribution (or module) that `name` comes from; several are joined by `` and ``."""
        self._import_built_ins()
        sources = [distribution_of(point) for point in self.entry_points().get(name, [])]
        if name in self._registered and name not in self._loaded:
            sources.insert(0, self._origins[name])
        return " and ".join(sources)

    def __getitem__(self, name: str) -> Callable[..., T]:
        """The class or function registered as `name`; imports the plugin that declares it.

        Raises:
            UnknownNameError: No such name.
            ComponentError: Two distributions claim the name, or its plugin cannot be imported.
        """
        self._import_built_ins()
        if name in self._loaded:
            return self._loaded[name]
        points = self.entry_points().get(name, [])
        registered = self._registered.get(name)
        if len(points) + (registered is not None) > 1:
            raise ComponentError(
                f"{self.name}: `{name}` is claimed by {self.origin(name)}; "
                "uninstall one of them, or ask its author for another name"
            )
        if registered is not None:
            return registered
        if not points:
            raise UnknownNameError(self.name, name, self.names(), self.nearest(name))
        return self._load(points[0])

    def _load(self, point: entrypoints.EntryPoint) -> Callable[..., T]:
        source = distribution_of(point)
        before = self._registered.get(point.name)
        try:
            factory: Callable[..., T] = point.load()
        except Exception as error:
            raise ComponentError(
                f"{self.name}: `{point.name}` of {source} cannot be imported: "
                f"{type(error).__name__}: {error}; repair or uninstall {source}"
            ) from error
        registered = self._registered.get(point.name)
        if registered is not before and registered is not factory:
            raise ComponentError(
                f"{self.name}: `{point.name}` of {source} is {factory!r} by entry point "
                f"but {registered!r} by decorator; keep one"
            )
        self._check(point.name, factory)
        self._loaded[point.name] = factory
        self._origins[point.name] = source
        return factory

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


def distribution_of(point: entrypoints.EntryPoint) -> str:
    """``name version`` of the distribution that declares the entry point."""
    return f"{point.distro.name} {point.distro.version}" if point.distro else "an unnamed distribution"


def registry_for(interface: Any) -> Registry[Any] | None:
    """The registry whose components are, or return, `interface`."""
    return next((each for each in registries.values() if each.interface is interface), None)
