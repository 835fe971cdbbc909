"""What a shell may complete: recipes, names of registries and components, keys of recipes, codes.

Names and keys need every component imported, which takes seconds; so they are kept in the user's cache,
as long as no installed package changes.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, TypeAlias

import typer

import nasframe

Candidates: TypeAlias = list[tuple[str, str]]
"""What may stand there, each with what it is."""

_DEEPEST: Final = 12
_MAX_FILES: Final = 20


def _quietly(complete: Callable[..., Iterable[tuple[str, str]]]) -> Callable[..., Candidates]:
    """Whatever goes wrong while the user types, nothing is completed then."""

    @wraps(complete)
    def completed(*arguments: Any, **named: Any) -> Candidates:
        try:
            return [(text, " ".join(what.split())) for text, what in complete(*arguments, **named)]
        except Exception:
            return []

    return completed


@_quietly
def complete_shipped(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of shipped recipes."""
    from nasframe.cli.shipped import header_of
    from nasframe.recipe.discovery import shipped_recipes

    for name, path in shipped_recipes().items():
        if name.startswith(incomplete):
            yield name, header_of(path.read_text(encoding="utf-8")).get("what", "")


@_quietly
def complete_recipe(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of shipped recipes, YAML files, and folders that may have some."""
    yield from complete_shipped(incomplete)
    folder, _, beginning = incomplete.rpartition("/")
    for path in sorted(Path(f"{folder}/" if folder or incomplete[:1] == "/" else ".").iterdir()):
        shown = f"{incomplete[: len(incomplete) - len(beginning)]}{path.name}"
        if path.name.startswith(beginning) and (beginning or not path.name.startswith(".")):
            if path.is_dir():
                yield f"{shown}/", "folder"
            elif path.suffix in (".yaml", ".yml"):
                yield shown, "file"


@_quietly
def complete_registry(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of registries."""
    for name, components in _catalog()["components"].items():
        if name.startswith(incomplete):
            yield name, ", ".join(components)


@_quietly
def complete_component(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of components in the registry that was typed before."""
    components = _catalog()["components"].get(context.params.get("registry"), {})
    return ((name, what) for name, what in components.items() if name.startswith(incomplete))


@_quietly
def complete_code(incomplete: str) -> Iterator[tuple[str, str]]:
    """Codes of problems."""
    from nasframe.problem_kinds import KINDS

    return ((code, kind.means) for code, kind in KINDS.items() if code.startswith(incomplete))


@_quietly
def complete_override(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Keys of the recipe that was typed before, and the values that can be chosen for one.

    Bash parts words at ``=``, other shells do not.
    """
    typed = _joined(context.params.get("overrides") or ())
    recipe = _with_overrides(_plain_recipe(context.params.get("recipe", "")), typed)
    if awaiting := _key_before(typed):
        return ((value, what) for value, what in _values(awaiting, recipe) if value.startswith(incomplete))
    key, equals, _ = incomplete.partition("=")
    if equals:
        found = ((f"{key}={value}", what) for value, what in _values(key, recipe))
    elif incomplete.startswith("~"):
        found = ((f"~{'.'.join(path)}", "") for path in _paths(recipe))
    else:
        found = ((f"{'.'.join(path)}=", what) for path, what in _keys(_root(), recipe, ()))
    fitting = [(text, what) for text, what in found if text.startswith(incomplete)]
    if len(fitting) == 1 and fitting[0][0].endswith("="):  # bash would put a space behind the only one
        fitting += [(fitting[0][0] + value, what) for value, what in _present(fitting[0][0][:-1], recipe)]
    return iter(fitting)


def _joined(words: Sequence[str]) -> list[str]:
    """The overrides that were typed, where a shell may have parted them at ``=``."""
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _with_overrides(recipe: Any, overrides: Sequence[str]) -> Any:
    """The recipe with the names and other words that overrides assign."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and value and not key.startswith("~"):
            patch: Any = value
            for name in reversed(key.split(".")):
                patch = {name: patch}
            recipe = _laid_over(recipe, patch)
    return recipe


def _key_before(overrides: Sequence[str]) -> str:
    """The key whose value comes next, where a shell has parted the words at ``=``."""
    last = overrides[-1] if overrides else ""
    return "" if last.startswith("~") or "=" in last.rstrip("=") else last.rstrip("=")


def _at(key: str, recipe: Any) -> tuple[list[Any], Any]:
    """The schemas of a key, and what the recipe says there."""
    schemas = [_root()]
    for name in key.split("."):
        schemas = [part for schema in schemas for part in _parts(schema, recipe).get(name, ())]
        recipe = recipe.get(name) if isinstance(recipe, dict) else None
    return schemas, recipe


def _present(key: str, recipe: Any) -> Iterator[tuple[str, str]]:
    """The number, word or truth value that a key has now, if it is one."""
    schemas, said = _at(key, recipe)
    for value, what in [(said, "as it is"), *((each.get("default"), "the default") for each in schemas)]:
        if isinstance(value, (str, bool, int, float)):
            yield (value if isinstance(value, str) else json.dumps(value)), what
            return


def _values(key: str, recipe: Any) -> Iterator[tuple[str, str]]:
    """The names, options and truth values that a key can have."""
    is_type = key.endswith(".type")
    schemas, _ = _at(key.removesuffix(".type"), recipe)
    for each in (alternative for schema in schemas for alternative in _alternatives(schema)):
        if each.get("type") == "boolean":
            yield from (("true", ""), ("false", ""))
        if each.get("type") == "null" and not is_type:
            yield "null", ""
        for value in [each["const"]] if "const" in each else each.get("enum", []):
            yield str(value), each.get("description", "")


def _keys(schema: Any, recipe: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every path below a schema with its meaning, by the components that the recipe names."""
    for name, parts in _parts(schema, recipe).items():
        of_name = recipe.get(name) if isinstance(recipe, dict) else None
        for part in parts:
            if name not in ("type", "include") and not _is_section(part):
                yield (*path, name), part.get("description", "")
            if len(path) < _DEEPEST:
                yield from _keys(part, of_name, (*path, name))


def _is_section(schema: Any) -> bool:
    return any("type" not in each.get("properties", {"type": {}}) for each in _alternatives(schema))


def _parts(schema: Any, recipe: Any) -> dict[str, list[Any]]:
    """The schemas of a mapping's keys; of a component those of the named one, or else of the default."""
    mappings = [each for each in _alternatives(schema) if "properties" in each]
    default = schema.get("default")
    name = recipe.get("type") if isinstance(recipe, dict) else recipe
    name = name or (default.get("type") if isinstance(default, dict) else None)
    named = [each for each in mappings if each["properties"].get("type", {}).get("const") == name]
    found: dict[str, list[Any]] = {}
    for mapping in named or mappings:
        for key, part in mapping["properties"].items():
            found.setdefault(key, [part])
    return found


def _alternatives(schema: Any) -> Iterator[Any]:
    for each in schema.get("anyOf", [schema]):
        if "$ref" in each:
            yield _catalog()["schema"]["$defs"][each["$ref"].rpartition("/")[2]]
        else:
            yield each


def _root() -> Any:
    return _catalog()["schema"]["else"]


def _plain_recipe(recipe: str, read: list[Path] | None = None) -> Any:
    """What a recipe's files say, as far as they can be read; `read` are those that were read before."""
    from nasframe.recipe.discovery import shipped_recipes
    from nasframe.recipe.yaml_text import MAX_CHARACTERS, read_yaml

    read = [] if read is None else read
    path = shipped_recipes().get(recipe, Path(recipe))
    if len(read) >= _MAX_FILES or not path.is_file() or path.stat().st_size > MAX_CHARACTERS:
        return {}
    read.append(path)
    node = read_yaml(path.read_text(encoding="utf-8"), str(path), [])
    said = node.plain if node and isinstance(node.value, dict) else {}
    include = said.pop("include", [])
    found: Any = {}
    for name in [include] if isinstance(include, str) else include:
        beside = path.parent / name
        found = _laid_over(found, _plain_recipe(str(beside) if beside.is_file() else name, read))
    return _laid_over(found, said)


def _laid_over(lower: Any, upper: Any) -> Any:
    if not isinstance(lower, dict) or not isinstance(upper, dict):
        return upper
    both = {key: _laid_over(lower[key], upper[key]) for key in lower.keys() & upper.keys()}
    return {**lower, **upper, **both}


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, item in value.items() if isinstance(value, dict) else ():
        yield (*path, str(key))
        yield from _paths(item, (*path, str(key)))


@cache
def _catalog() -> Any:
    """The components by registry, and the schema of recipes; kept in the user's cache."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nasframe"
    file = folder / f"completion-{_fingerprint()}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        catalog = _made_catalog()
        _keep(file, json.dumps(catalog))
        return catalog


def _fingerprint() -> str:
    """Changes when nasframe does, and when any package is installed or removed."""
    package = Path(nasframe.__file__).parent
    files = [*package.rglob("*.py"), *(info for each in sys.path for info in Path(each).glob("*-info"))]
    stamps = sorted((str(file), file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(repr([sys.version, *stamps]).encode()).hexdigest()[:16]


def _keep(file: Path, text: str) -> None:
    """Write the cache, whole or not at all, instead of older ones."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("completion-*.json"):
            old.unlink(missing_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    except OSError:
        pass  # then it is made anew each time


def _made_catalog() -> dict[str, Any]:
    import nasframe.core  # noqa: F401 (declares the registries)
    from nasframe.recipe.discovery import probe_plugins
    from nasframe.recipe.json_schema import recipe_schema
    from nasframe.registry import registries

    broken = {(state.registry, state.name) for state in probe_plugins() if state.failure}
    components = {
        registry.name: {
            name: registry.signature(name).summary
            for name in registry.names()
            if (registry.name, name) not in broken
        }
        for registry in registries.values()
    }
    return {"components": components, "schema": recipe_schema(broken)}
