"""What is there besides the built-ins: shipped recipes, the user's own modules, third parties' plugins."""

import faulthandler
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import nasframe
from nasframe.declarations import told_if_long
from nasframe.errors import NasframeError, Problem, RecipeError
from nasframe.problem_kinds import UNUSABLE_MODULE
from nasframe.registry import registries

_MODULE: Final = "nasframe_plugin_"
_SECONDS_TO_START: Final = 60
_FAILURE_MARK: Final = "\x1eplugin failed: "
_PROBE: Final = "import sys; from nasframe.recipe.discovery import probe; probe(*sys.argv[1:])"


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with nasframe, by name."""
    return _shipped("recipes")


def shipped_studies() -> dict[str, Path]:
    """The studies that come with nasframe, by name."""
    return _shipped("studies")


def _shipped(folder: str) -> dict[str, Path]:
    found = (Path(nasframe.__file__).parent / folder).glob("*.yaml")
    return {path.stem: path for path in sorted(found)}


def import_modules(paths: Sequence[Path]) -> None:
    """Import modules of the user's, each once, so that they register their components.

    Raises:
        RecipeError: A file is missing, or its import fails.
    """
    problems = []
    for path in paths:
        try:
            with told_if_long(f"--plugin {path}"):
                _import_module(path.resolve())
        except (Exception, SystemExit) as error:
            given = f"{type(error).__name__}: {error}"
            rule = f"{path} must be a Python module that can be imported"
            if not path.is_file():
                rule, given = f"{path} must be a file", ""
            problems.append(Problem(UNUSABLE_MODULE, "command line", "--plugin", rule, given))
    if problems:
        raise RecipeError(problems)


def imported_modules() -> tuple[Path, ...]:
    """The user's modules that were imported, for other processes to do the same."""
    named = [module for name, module in sys.modules.items() if name.startswith(_MODULE)]
    return tuple(Path(module.__file__) for module in named if module.__file__)


def _import_module(path: Path) -> None:
    name = f"{_MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


@final
@dataclass(frozen=True)
class PluginState:
    """How a third party's component fares.

    Attributes:
        registry: The registry that it is declared for.
        name: Its registered name.
        source: The distributions that declare it.
        failure: Why it cannot be used; None if it can.
    """

    registry: str
    name: str
    source: str
    failure: str | None


def probe_plugins(registry_names: Sequence[str] = (), time_limit: float = 20.0) -> list[PluginState]:
    """Import each third party's component in a process of its own, unless it is known not to be usable.

    Args:
        registry_names: Registries to look at; all if empty.
        time_limit: Seconds that one plugin's import may take.
    """
    found = [
        PluginState(name, component, registry.origin(component), registry.obstacle(component))
        for name, registry in registries.items()
        if not registry_names or name in registry_names
        for component in registry.third_party_names()
    ]

    def probed(state: PluginState) -> PluginState:
        if state.failure is not None:
            return state
        return replace(state, failure=_failure(state.registry, state.name, time_limit))

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(probed, found))


def _failure(registry: str, name: str, time_limit: float) -> str | None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROBE, registry, name, str(time_limit)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
        )  # fmt: skip
        try:
            status = process.wait(time_limit + _SECONDS_TO_START)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if status == 0:
        return None
    if _FAILURE_MARK in text:
        return text.rpartition(_FAILURE_MARK)[2].strip()
    if "Timeout (" in text:
        return f"its import did not end within {time_limit:g} s"
    last_line = text.strip().rpartition("\n")[2]
    return f"its import ended the process with status {status}" + (f": {last_line}" if last_line else "")


def probe(registry: str, name: str, time_limit: str) -> None:
    """Import one component and exit; runs in a process of its own.

    The time begins when nasframe itself is imported, and a watchdog outside of Python ends it.
    """
    import nasframe.core  # noqa: F401 (declares the registries)

    faulthandler.dump_traceback_later(float(time_limit), exit=True)
    try:
        registries[registry][name]
    except NasframeError as error:
        sys.exit(f"{_FAILURE_MARK}{error}")
    finally:
        faulthandler.cancel_dump_traceback_later()
