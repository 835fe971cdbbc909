"""Write down what is public, one thing a line:  python docs/public_api.py.

tests/meta/test_public_api.py compares public_api.txt with the code; docs/stability.md says what is promised.
"""

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol

import typer

import nasframe.core
import nasframe.ops
from nasframe import problem_kinds
from nasframe.cli.app import app
from nasframe.declarations import PLUGIN_API
from nasframe.recipe import Recipe
from nasframe.recipe.schema import VERSION, listed_section, plain, settings_of
from nasframe.registry import BUILT_IN, Registry, registries
from nasframe.settings import Setting, spell_type

LIST = Path(__file__).with_name("public_api.txt")
MODULES = ("nasframe.core", "nasframe", "nasframe.errors", "nasframe.testing", "nasframe.types")
CALLED = {"__call__", "__contains__", "__getitem__", "__init__", "__iter__", "__len__"}
OF_TYPER = {"install_completion", "show_completion"}


def public_api() -> list[str]:
    """What is public of nasframe itself, whichever plugins are installed; sorted."""
    ops = (f"nasframe.ops.{module.name}" for module in pkgutil.iter_modules(nasframe.ops.__path__))
    modules = [*MODULES, *(name for name in ops if "._" not in name)]
    lines = [line for name in modules for line in python_names(importlib.import_module(name))]
    lines += [f"recipe version = {VERSION}", "recipe include: recipes below this one", *recipe_keys(Recipe)]
    lines += [line for registry in registries.values() for line in components(registry)]
    lines += verbs("nasframe", typer.main.get_command(app))
    lines += [f"problem {kind.code} {name}" for name, kind in vars(problem_kinds).items() if is_kind(kind)]
    return sorted({*lines, f"plugin API {PLUGIN_API}"})


def told(committed: Collection[str], found: Collection[str]) -> str:
    """What changed, what that means and what to do; empty if nothing did."""
    gone = [f"  - {line}" for line in committed if line not in found]
    new = [f"  + {line}" for line in found if line not in committed]
    if not gone and not new:
        return ""
    told = [
        "What is public differs from docs/public_api.txt:",
        *sorted(gone + new, key=lambda line: line[4:]),
    ]
    if gone:
        told.append(
            "Each line with - is a break: recipes, plugins or scripts that rely on it stop working. "
            "Undo it, or let the former name be read for as long as docs/stability.md says, "
            "and tell it in CHANGELOG.md under Changed or Removed."
        )
    if new:
        told.append("Each line with + is promised from its release on: tell it in CHANGELOG.md.")
    return "\n".join([*told, "If this is meant, write the list anew: python docs/public_api.py"])


def is_kind(value: Any) -> bool:
    """Whether it is a kind of problem."""
    return isinstance(value, problem_kinds.ProblemKind)


def python_names(module: ModuleType) -> Iterator[str]:
    """The names of a module, with their signatures and members."""
    tree = ast.parse(inspect.getsource(module))
    defined = {name: node for node in tree.body for name in names_of(node) if not name.startswith("_")}
    for name in getattr(module, "__all__", defined):
        value = getattr(module, name)
        label = f"python {module.__name__}.{name}"
        if isinstance(value, Registry):
            yield f"{label}: registry, gives ({', '.join(value.given)})"
        elif module is nasframe and hasattr(nasframe.core, name):
            yield f"{label} = nasframe.core.{name}"
        elif inspect.isclass(value):
            bases = [base.__name__ for base in value.__bases__ if base not in (object, Generic, Protocol)]
            yield f"{label}({', '.join(bases)})" if bases else label
            yield from (f"{label}{member}" for member in members(value))
        elif inspect.isfunction(value):
            (function,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
            yield label + spell_function(function)
        elif is_alias(node := defined.get(name)):
            yield f"{label} = {ast.unparse(node.value)}"
        else:
            yield label


def is_alias(node: ast.stmt | None) -> bool:
    """Whether it names a type."""
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"


def names_of(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def members(value: type) -> Iterator[str]:
    """The public attributes and methods of a class, also those that it inherits from a private one."""
    seen: set[str] = set()
    for owner in value.__mro__:
        is_listed = owner is not value and owner.__name__ in nasframe.core.__all__
        if is_listed or not owner.__module__.startswith("nasframe"):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(tree, ast.ClassDef)
        for node in tree.body:
            for name in names_of(node):
                if name in seen or (name.startswith("_") and name not in CALLED):
                    continue
                seen.add(name)
                yield f".{name}{spell_member(node)}"
                if name == "__init__":
                    yield from (f".{each}" for each in kept_attributes(node) if each not in seen)


def spell_member(node: ast.stmt) -> str:
    """The signature of a method, or the type of an attribute."""
    if isinstance(node, ast.AnnAssign):
        default = f" = {ast.unparse(node.value)}" if node.value else ""
        return f": {ast.unparse(node.annotation)}{default}"
    if isinstance(node, ast.FunctionDef):
        if any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list):
            return f": {ast.unparse(node.returns)}" if node.returns else ""
        return spell_function(node)
    return ""


def spell_function(node: ast.stmt) -> str:
    """Parameters and result as they are written."""
    assert isinstance(node, ast.FunctionDef)
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){result}"


def kept_attributes(node: ast.stmt) -> Iterator[str]:
    """The public attributes that ``__init__`` sets."""
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and each.attr[0] != "_":
            yield each.attr


def recipe_keys(section: type, path: str = "") -> Iterator[str]:
    """The keys of a section with their types and defaults, and those of its sections."""
    for name, setting in settings_of(section).items():
        if dataclasses.is_dataclass(setting.annotation) and isinstance(setting.annotation, type):
            yield from recipe_keys(setting.annotation, f"{path}{name}.")
        elif (item := listed_section(setting.annotation)) is not None:
            yield from recipe_keys(item, f"{path}{name}.*.")
        else:
            yield f"recipe {path}{name}{spell_setting(setting)}"


def components(registry: Registry[Any]) -> Iterator[str]:
    """The built-in components of a registry with their settings."""
    for name in registry.names():
        if registry.origin(name) == BUILT_IN:
            signature = registry.signature(name)
            label = f"component {registry.name}.{name}"
            yield label
            yield from (f"{label}.{each.name}{spell_setting(each)}" for each in signature.settings.values())


def spell_setting(setting: Setting) -> str:
    """Type and default."""
    default = "" if setting.required else f" = {json.dumps(plain(setting.default))}"
    return f": {spell_type(setting.annotation)}{default}"


def verbs(path: str, command: Any) -> Iterator[str]:
    """A verb with its arguments and options, and the verbs below it."""
    yield f"command {path}"
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield f"command {path} {parameter.metavar}{'' if parameter.required else ' (optional)'}"
        elif parameter.name not in OF_TYPER:
            value = "" if parameter.is_flag else f" {parameter.metavar}"
            yield f"command {path} {'/'.join(parameter.opts)}{value}"
    for name, verb in getattr(command, "commands", {}).items():
        yield from verbs(f"{path} {name}", verb)


if __name__ == "__main__":
    LIST.write_text("\n".join(public_api()) + "\n", encoding="utf-8")
