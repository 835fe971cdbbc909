"""The verbs about what the registries hold."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.output import flow, print_json, print_table

if TYPE_CHECKING:
    from nasframe.registry import Registry
    from nasframe.settings import Setting


def list_(
    registry: Annotated[
        str | None, typer.Argument(metavar="[REGISTRY]", help="Such as algorithms; by default all.")
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
    """Each component; of a broken one its failure in place of its summary."""
    from nasframe.recipe.discovery import probe_plugins

    failures = {
        (state.registry, state.name): state.failure for state in probe_plugins([each.name for each in chosen])
    }
    rows = []
    for registry in chosen:
        for name in registry.names():
            failure = failures.get((registry.name, name))
            summary = None if failure else registry.signature(name).summary
            row = {"registry": registry.name, "name": name, "from": registry.origin(name)}
            rows.append({**row, "summary": summary, "failure": failure})
    return rows


def show(
    registry: Annotated[str, typer.Argument(metavar="REGISTRY", help="Such as algorithms.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as darts_bilevel.")],
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show a component, its settings, and how to name it."""
    from nasframe.registry import UnknownNameError

    chosen = _registry(registry, plugin)
    try:
        signature = chosen.signature(name)
    except UnknownNameError as error:
        raise typer.BadParameter(str(error)) from error
    settings = [_described(setting) for setting in signature.settings.values()]
    fragment = _fragment(chosen, name, signature.settings)
    if as_json:
        about = {"registry": registry, "name": name, "from": chosen.origin(name)}
        given = {"summary": signature.summary, "given": list(signature.given)}
        print_json({**about, **given, "settings": settings, "fragment": fragment})
        return
    typer.secho(f"{registry} {name}", bold=True, nl=False)
    typer.echo(f" from {chosen.origin(name)}\n\n{signature.summary}\n")
    if signature.given:
        typer.echo(f"The framework gives: {', '.join(signature.given)}\n")
    rows = [[each["name"], each["type"], each["default_text"], each["meaning"]] for each in settings]
    if rows:
        print_table(["setting", "type", "default", "meaning"], rows)
        typer.echo()
    typer.echo(fragment, nl=False)


def _registries(plugins: list[Path] | None) -> "dict[str, Registry[Any]]":
    import nasframe.core  # noqa: F401 (declares the registries)
    from nasframe.recipe.discovery import import_modules
    from nasframe.registry import registries

    import_modules(plugins or ())
    return registries


def _registry(name: str, plugins: list[Path] | None) -> "Registry[Any]":
    registries = _registries(plugins)
    if name not in registries:
        nearest = difflib.get_close_matches(name, registries, n=1)
        hint = f"did you mean `{nearest[0]}`? " if nearest else ""
        available = ", ".join(registries)
        raise typer.BadParameter(f"no registry is called `{name}`; {hint}available: {available}")
    return registries[name]


def _described(setting: "Setting") -> dict[str, Any]:
    from nasframe.recipe.schema import plain, slot_of
    from nasframe.settings import spell_type

    form, registry = slot_of(setting.annotation)
    spelled = spell_type(setting.annotation)
    if registry is not None:
        spelled = {"one": "one of the {}", "optional": "one of the {}, or null"}.get(form, f"{form} of {{}}")
        spelled = spelled.format(registry.name)
    default = None if setting.required else plain(setting.default)
    return {
        "name": setting.name,
        "type": spelled,
        "required": setting.required,
        "default": default,
        "default_text": "(must be given)" if setting.required else flow(default),
        "meaning": setting.doc,
    }


def _fragment(registry: "Registry[Any]", name: str, settings: "Mapping[str, Setting]") -> str:
    """Part of a recipe that has this component, with all its defaults, in the first slot that takes it."""
    from nasframe.recipe.schema import plain, slots_of_recipe
    from nasframe.recipe.yaml_text import dump_yaml

    fragment: Any = {"type": name}
    for setting in settings.values():
        fragment[setting.name] = "..." if setting.required else plain(setting.default)
    for path, form, slot in slots_of_recipe():
        if slot is registry:
            fragment = [fragment] if form == "list" else fragment
            for key in reversed(path):
                fragment = {key: fragment}
            break
    return dump_yaml(fragment)
