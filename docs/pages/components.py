"""One page a registry, with a section for each component that is built in."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from nasframe.cli.catalog import about, facts
from nasframe.registry import BUILT_IN, Registry, registries
from pages.markdown import block, contents, definitions, prose, settings, table


def make() -> Iterator[tuple[str, str]]:
    """Path and text of each page."""
    for registry in registries.values():
        yield f"reference/{registry.name}", _page(registry)
    rows = [[f"[{each.name}]({each.name}.md)", _links(each)] for each in registries.values()]
    yield (
        "reference/index",
        f"""# Reference

Made from the code: it is what `nasframe show`, `nasframe explain` and `--help` tell, and the docstrings.

- [Keys of a recipe](recipe.md)
- [Command line](verbs.md)
- [Problems of a recipe, by code](problems.md)
- [What a step costs, against others](steps.md)
- Python: [`nasframe`](python.md), [`nasframe.core`](core.md), [`nasframe.testing`](testing.md)

## Components

{table(["registry", "built-in components"], rows)}

Plugins add to them; `nasframe list` has all that are installed.

{contents(["recipe", "verbs", "problems", "steps", *registries, "python", "core", "testing"])}""",
    )


def built_in(registry: Registry[Any]) -> list[str]:
    """Names of the components that come with nasframe."""
    return [name for name in registry.names() if registry.origin(name) == BUILT_IN]


def title(registry: Registry[Any]) -> str:
    """The registry's name as a heading."""
    return registry.name.replace("_", " ").capitalize()


def interface(registry: Registry[Any]) -> str:
    """What all components of a registry are, from the docstring of their interface."""
    return prose(inspect.getdoc(registry.interface) or "").split("\n\n")[0]


def _links(registry: Registry[Any]) -> str:
    return ", ".join(
        f"[`{name}`]({registry.name}.md#{_anchor(registry, name)})" for name in built_in(registry)
    )


def _anchor(registry: Registry[Any], name: str) -> str:
    return f"{registry.name}-{name}".replace("_", "-")


def _page(registry: Registry[Any]) -> str:
    known = {name: about(registry, name) for name in built_in(registry)}
    rows = [
        [f"[`{name}`](#{_anchor(registry, name)})", prose(each["summary"])] for name, each in known.items()
    ]
    sections = "\n\n".join(_section(registry, name, each) for name, each in known.items())
    return f"""# {title(registry)}

{interface(registry)}

{table(["name", "what"], rows)}

{sections}

To write one of your own: [{title(registry).lower()} of your own](../extending/{registry.name}.md)."""


def _section(registry: Registry[Any], name: str, each: Mapping[str, Any]) -> str:
    said = [(f"**{fact}**", _spelled(fact, text)) for fact, text in facts(each).items() if text]
    parts = [f"({_anchor(registry, name)})=\n## `{name}`", prose(each["summary"]), prose(each["description"])]
    parts.append(definitions(said))
    if each["settings"]:
        parts += ["**Settings**", settings(each["settings"])]
    if each["fragment"]:
        parts += ["**In a recipe**, with every default:", block("yaml", each["fragment"])]
    return "\n\n".join(part for part in parts if part)


def _spelled(fact: str, text: str) -> str:
    if fact == "is given" or (fact == "stands at" and ";" not in text):
        return ", ".join(f"`{name}`" for name in text.split(", "))
    return prose(text)
