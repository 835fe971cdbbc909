"""What third parties declare: entry points of installed distributions, read without importing them."""

import ast
import configparser
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, final

import entrypoints

from nasframe.errors import FaultWarning

PLUGIN_API: Final = "1"
"""The major version of the plugin API; a plugin says in its top module which it is written for."""

_PREFIX: Final = "nasframe."
_API_NAME: Final = "nasframe_api"
_LEFT_OVER: Final = "~"  # what pip puts before the name of a distribution that it failed to remove
_LONG_SECONDS: Final = 15.0


@contextmanager
def told_if_long(what: str) -> Iterator[None]:
    """Tell by a `FaultWarning` what is being imported inside, if that takes long: it may never end."""

    def tell() -> None:
        message = (
            f"{what} is still being imported after {_LONG_SECONDS:g} s; if that does not end, interrupt it "
            "(Ctrl-C) and repair or uninstall it"
        )
        warnings.warn(message, FaultWarning, stacklevel=1)

    timer = threading.Timer(_LONG_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@final
@dataclass(frozen=True)
class Declaration:
    """An entry point.

    Attributes:
        name: The registered name.
        value: ``module:object``.
        source: The distribution that declares it, with its version.
    """

    name: str
    value: str
    source: str

    def load(self) -> Any:
        """Import the object; raises whatever its module raises."""
        return entrypoints.EntryPoint.from_string(self.value, self.name).load()

    def obstacle(self) -> str | None:
        """Why it must not be imported, and what to do; None if nothing is known to speak against it."""
        top = self.value.partition(":")[0].partition(".")[0].strip()
        if not top.isidentifier():
            return None  # `load` says what is wrong with it
        source = _source_of(top)
        if source is None:
            return f"is half-installed: there is no module `{top}`; reinstall {self.source}, or uninstall it"
        api = _declared_api(source)
        if api is not None and api.partition(".")[0] != PLUGIN_API:
            return (
                f"is built for plugin API {api}, but this nasframe has {PLUGIN_API}; "
                f"install a version of {self.source} that is built for it, or another nasframe"
            )
        return None


def _source_of(module: str) -> str | None:
    """The source of a top-level module, empty where it has none; None if there is no such module."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    try:
        return Path(spec.origin or "").read_text(encoding="utf-8") if spec.has_location else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _declared_api(source: str) -> str | None:
    """The value of the line ``nasframe_api = "1"`` at the top level of a module; None without one."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # importing it says what is wrong
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        named = any(isinstance(target, ast.Name) and target.id == _API_NAME for target in targets)
        if named and isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            return str(statement.value.value)
    return None


@final
@dataclass(frozen=True)
class BrokenMetadata:
    """Metadata of a third party that declares nothing because it cannot be read or used.

    Attributes:
        path: The file or folder.
        failure: What is wrong, and what to do.
    """

    path: Path
    failure: str


def declarations(group: str) -> dict[str, list[Declaration]]:
    """What distributions declare in a group such as ``nasframe.algorithms``, by name."""
    return _scanned(tuple(sys.path))[0].get(group, {})


def declared_groups() -> dict[str, dict[str, list[Declaration]]]:
    """All that distributions declare for nasframe, by group and name, also in groups that nobody reads."""
    return _scanned(tuple(sys.path))[0]


def broken_metadata() -> list[BrokenMetadata]:
    """What looks like a plugin of nasframe, but declares nothing."""
    return _scanned(tuple(sys.path))[1]


@cache
def _scanned(
    path: tuple[str, ...],
) -> tuple[dict[str, dict[str, list[Declaration]]], list[BrokenMetadata]]:
    """Found anew when ``sys.path`` changes; of two distributions of one name the first is in use.

    Entry points are parsed when they are loaded, so that a malformed one breaks nothing else.
    """
    found: dict[str, dict[str, list[Declaration]]] = {}
    broken, seen = [], set()
    for folder in path:
        for file in sorted(Path(folder).glob("*-info/entry_points.txt")):
            distribution = entrypoints.Distribution.from_name_version(file.parent.stem)
            config, failure = _read(file)
            if failure is not None:
                broken.append(BrokenMetadata(file, failure))
            key = distribution.name.lower().replace("-", "_")
            if key in seen or config is None:
                continue
            seen.add(key)
            for group, declaration in _entries(config, f"{distribution.name} {distribution.version}"):
                found.setdefault(group, {}).setdefault(declaration.name, []).append(declaration)
    return found, broken


def _read(file: Path) -> tuple[configparser.ConfigParser | None, str | None]:
    """The entry points of a distribution, None if they cannot be used; and if they are for us, why."""
    config = entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
    try:
        content = file.read_bytes()
    except OSError:
        return None, None
    failure = None
    if file.parent.name.startswith(_LEFT_OVER):
        failure = f"is left over from an uninstallation that failed; remove {file.parent}"
    else:
        try:
            config.read_string(content.decode())
        except (configparser.Error, UnicodeDecodeError) as error:
            failure = f"cannot be read: {' '.join(str(error).split())}; reinstall its distribution"
    if failure is None:
        return config, None
    return None, failure if f"[{_PREFIX}".encode() in content else None


def _entries(config: configparser.ConfigParser, source: str) -> Iterator[tuple[str, Declaration]]:
    for group in config.sections():
        if group.startswith(_PREFIX):
            for name, value in config.items(group, raw=True):
                yield group, Declaration(name, value, source)
