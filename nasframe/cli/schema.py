"""The verb that describes recipes for editors."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nasframe.cli.arguments import Plugins
from nasframe.cli.output import print_json

SCHEMA_FILE = "nasframe.schema.json"
"""What the shipped recipes name as their schema, beside them."""


def schema(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Write it there, such as {SCHEMA_FILE} beside a recipe."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Print the JSON Schema of recipes. With it, editors complete, explain and check them."""
    from nasframe.recipe.discovery import import_modules

    import_modules(plugin or ())
    if out is None:
        print_json(_schema())
    else:
        write_schema(out)
        typer.echo(str(out))


def write_schema(file: Path) -> None:
    """Write the schema of recipes, with all plugins that can be imported.

    Raises:
        BadParameter: The file holds something else, or cannot be written.
    """
    from nasframe.recipe.json_schema import TITLE

    if file.exists() and not _is_schema(file, TITLE):
        raise typer.BadParameter(f"{file} exists and is no schema of recipes; name another file")
    text = json.dumps(_schema(), indent=1, ensure_ascii=False) + "\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}") from error


def _schema() -> dict[str, object]:
    from nasframe.recipe.discovery import probe_plugins
    from nasframe.recipe.json_schema import recipe_schema

    return recipe_schema({(state.registry, state.name) for state in probe_plugins() if state.failure})


def _is_schema(file: Path, title: str) -> bool:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("title") == title
