"""The verbs about the recipes that come with nasframe."""

from pathlib import Path
from typing import Annotated

import typer

from nasframe.cli.arguments import AsJson
from nasframe.cli.completion import complete_shipped
from nasframe.cli.output import print_json, print_table
from nasframe.cli.schema import SCHEMA_FILE, write_schema
from nasframe.suggestion import did_you_mean


def recipes(as_json: AsJson = False) -> None:
    """List the shipped recipes."""
    from nasframe.recipe.discovery import shipped_recipes

    headers = {name: header_of(path.read_text(encoding="utf-8")) for name, path in shipped_recipes().items()}
    if as_json:
        print_json([{"name": name, **header} for name, header in headers.items()])
    else:
        print_table(["recipe", "what"], [[name, header.get("what", "")] for name, header in headers.items()])


def copy(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped recipe.", autocompletion=complete_shipped)
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; by default NAME.yaml, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Copy a shipped recipe, to edit it. Its schema for editors is written beside it."""
    from nasframe.recipe.discovery import shipped_recipes

    shipped = shipped_recipes()
    if name not in shipped:
        hint = f"{did_you_mean(name, shipped)} available: {', '.join(shipped)}".lstrip()
        raise typer.BadParameter(f"no shipped recipe is called `{name}`; {hint}")
    target = file or Path(f"{name}.yaml")
    text = shipped[name].read_text(encoding="utf-8")
    try:
        with target.open("w" if force else "x", encoding="utf-8") as copied:
            copied.write(text)
    except FileExistsError as error:
        raise typer.BadParameter(f"{target} exists; name another file, or overwrite it by --force") from error
    except OSError as error:
        raise typer.BadParameter(f"{target} cannot be written: {error.strerror}") from error
    typer.echo(str(target))
    beside = target.parent / SCHEMA_FILE
    if not beside.exists():
        write_schema(beside)
        typer.echo(f"{beside}, for your editor", err=True)


def header_of(text: str) -> dict[str, str]:
    """The fields (``what``, ``source`` …) of the comment that a recipe opens with."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        name, colon, rest = line[1:].strip().partition(":")
        if colon and name.isalpha() and not line.startswith("#   "):
            last = name.lower()
            fields[last] = rest.strip()
        elif last:
            fields[last] = f"{fields[last]} {line[1:].strip()}"
    return fields
