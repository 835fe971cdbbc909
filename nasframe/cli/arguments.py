"""Arguments that several verbs take."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from nasframe.cli.completion import complete_override, complete_recipe

RecipeName: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A YAML file, or the name of a shipped recipe.",
        autocompletion=complete_recipe,
    ),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="a.b.c=value lays a value over the recipe, ~a.b deletes one.",
        show_default=False,
        autocompletion=complete_override,
    ),
]
Plugins: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="Import a module that registers components."),
]
Outside: TypeAlias = Annotated[
    bool,
    typer.Option("--outside", help="Let the recipe include, and write, files outside of its folder."),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the run directory alone, and what is wrong.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
On: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="EXECUTOR",
        help="Where runs are made: processes (of this machine), ray, slurm; settings as in a recipe: "
        "'{type: ray, gpus: 0.5}'.",
        show_default=False,
    ),
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", min=1, help="How many at a time; of this machine one by default."),
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Of a Ray cluster; without it one is started."),
]


def executor_overrides(on: str | None, jobs: int | None, address: str | None) -> list[str]:
    """What `nasframe.recipe.executing.read_executor` takes."""
    given = {"on": on, "on.jobs": jobs, "on.address": address}
    return [f"{key}={value}" for key, value in given.items() if value is not None]
