"""The verbs about what the registries hold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.completion import complete_component, complete_registry
from nasframe.cli.output import flow, print_json, print_table, wrapped
from nasframe.suggestion import did_you_mean

if TYPE_CHECKING:
    from nasframe.registry import Registry
    from nasframe.settings import Setting, Signature

RegistryName: TypeAlias = Annotated[
    str, typer.Argument(metavar="REGISTRY", help="Such as algorithms.", autocompletion=complete_registry)
]

_CITATION: Final = re.compile(
    r"[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)? (?:19|20)\d\d\b(?:, [^();:]*[^();:.\s])?"
)


def list_(
    registry: Annotated[
        str | None,
        typer.Argument(
            metavar="[REGISTRY]",
            help="Such as algorithms; by default all.",
            autocompletion=complete_registry,
        ),
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List components and the packages they are from."""
    chosen = [_registry(registry, plugin)] if registry else list(_registries(plugin).values())
    rows = _rows(chosen)
    if as_json:
        print_json(rows)
        return
    for each in chosen:
        own = [row for row in rows if row["registry"] == each.name]
        if own:
            table = [[row["name"], row["from"], row["failure"] or row["summary"]] for row in own]
            print_table([each.name, "from", "what"], table)
            typer.echo()


def _rows(chosen: "list[Registry[Any]]") -> list[dict[str, Any]]:
    """Each component; of a broken one its failure in place of what it is."""
    failures = _failures([each.name for each in chosen])
    rows = []
    for registry in chosen:
        for name in registry.names():
            failure = failures.get((registry.name, name))
            signature = None if failure else registry.signature(name)
            row: dict[str, Any] = {"registry": registry.name, "name": name, "from": registry.origin(name)}
            row |= {"summary": signature.summary if signature else None, "failure": failure}
            rows.append({**row, "papers": _papers(signature) if signature else []})
    return rows


def _failures(registry_names: Sequence[str] = ()) -> dict[tuple[str, str], str]:
    """Why third parties' components cannot be used, by registry and name."""
    from nasframe.recipe.discovery import probe_plugins

    states = probe_plugins(registry_names)
    return {(state.registry, state.name): state.failure for state in states if state.failure}


def show(
    registry: RegistryName,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Such as darts_bilevel.", autocompletion=complete_component),
    ],
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show a component. Its paper, its settings, what it works with, and how to name it in a recipe."""
    from nasframe.registry import UnknownNameError

    chosen = _registry(registry, plugin)
    try:
        told = about(chosen, name)
    except UnknownNameError as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        print_json(told)
    else:
        _print(told)


_NOWHERE: Final = "no recipe takes it; use it from Python"
_ELSEWHERE: Final = {
    "executors": "--on of run, resume, sweep and study",
    "layers": "the choices of the rules of space surgery",
    "readers": "no recipe takes it; data sets name theirs",
}


def about(registry: "Registry[Any]", name: str) -> dict[str, Any]:
    """All that is known of a component, as plain data."""
    from nasframe.recipe.usage import fragment_of, partners_of, slots_for
    from nasframe.recipe.yaml_text import dump_yaml

    signature, without = registry.signature(name), _failures()
    fragment = fragment_of(registry, name, without)
    return {
        "registry": registry.name,
        "name": name,
        "from": registry.origin(name),
        "summary": signature.summary,
        "description": signature.description,
        "papers": _papers(signature),
        "given": list(signature.given),
        "needs": sorted(getattr(registry[name], "needs", ())),
        "makes": {kind.name: str(kind.level) for kind in getattr(registry[name], "makes", ())},
        "works_with": [asdict(each) for each in partners_of(registry, name, without)],
        "slots": [".".join(slot.path) for slot in slots_for(registry, without)],
        "settings": [described(setting) for setting in signature.settings.values()],
        "fragment": None if fragment is None else dump_yaml(fragment),
    }


def facts(told: Mapping[str, Any]) -> dict[str, str]:
    """What `about` tells of a component's place among others, in words; empty where there is nothing."""
    return {
        "paper": "; ".join(_spell_paper(paper) for paper in told["papers"]),
        "is given": ", ".join(told["given"]),
        "needs": ", ".join(_spell_need(need) for need in told["needs"]),
        "makes": ", ".join(
            f"parameters of kind {kind} ({level} level)" for kind, level in told["makes"].items()
        ),
        "works with": "; ".join(_spell_partners(each) for each in told["works_with"]),
        "stands at": ", ".join(told["slots"]) or _ELSEWHERE.get(told["registry"], _NOWHERE),
    }


def _print(told: Mapping[str, Any]) -> None:
    typer.secho(f"{told['registry']} {told['name']}", bold=True, nl=False)
    typer.echo(f" from {told['from']}\n\n{wrapped(told['summary'])}\n")
    if told["description"]:
        paragraphs = told["description"].split("\n\n")
        typer.echo("\n\n".join(map(wrapped, paragraphs)) + "\n")
    for fact, text in facts(told).items():
        if text:
            typer.echo(f"{fact + ':':12}{wrapped(text, indent=12)}")
    typer.echo()
    rows = [[each["name"], each["type"], each["default_text"], each["meaning"]] for each in told["settings"]]
    if rows:
        print_table(["setting", "type", "default", "meaning"], rows)
        typer.echo()
    typer.echo(told["fragment"] or "", nl=False)


def _papers(signature: "Signature") -> list[str]:
    """The publications that a docstring names, those of its first line if there are some."""
    for text in (signature.summary, signature.description):
        if found := _CITATION.findall(" ".join(text.split())):
            return list(dict.fromkeys(paper.strip() for paper in found))
    return []


def _spell_paper(paper: str) -> str:
    number = re.search(r"arXiv (\d{4}\.\d{4,5})", paper)
    return f"{paper} <https://arxiv.org/abs/{number[1]}>" if number else paper


def _spell_need(need: str) -> str:
    return f"parameters of the {need} level" if need in ("upper", "lower") else f"parameters of kind {need}"


def _spell_partners(partners: Mapping[str, Any]) -> str:
    fitting = ", ".join(partners["fitting"]) or "none"
    return f"{partners['registry']} {fitting} (not {', '.join(partners['unfitting'])})"


def _registries(plugins: list[Path] | None) -> "dict[str, Registry[Any]]":
    import nasframe.core  # noqa: F401 (declares the registries)
    from nasframe.recipe.discovery import import_modules
    from nasframe.registry import registries

    import_modules(plugins or ())
    return registries


def _registry(name: str, plugins: list[Path] | None) -> "Registry[Any]":
    registries = _registries(plugins)
    if name not in registries:
        hint = f"{did_you_mean(name, registries)} available: {', '.join(registries)}".lstrip()
        raise typer.BadParameter(f"no registry is called `{name}`; {hint}")
    return registries[name]


def described(setting: "Setting") -> dict[str, Any]:
    """All that is known of a setting, as plain data."""
    from nasframe.recipe.schema import listed_section, plain, slot_of
    from nasframe.settings import spell_type

    form, registry = slot_of(setting.annotation)
    spelled = spell_type(setting.annotation)
    if registry is not None:
        spelled = {"one": "one of the {}", "optional": "one of the {}, or null"}.get(form, f"{form} of {{}}")
        spelled = spelled.format(registry.name)
    elif listed_section(setting.annotation) is not None:
        spelled = "list of mappings"
    default = None if setting.required else plain(setting.default)
    return {
        "name": setting.name,
        "type": spelled,
        "required": setting.required,
        "default": default,
        "default_text": "(must be given)" if setting.required else flow(default),
        "meaning": setting.doc,
    }
