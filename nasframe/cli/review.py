"""The verbs that look at finished runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.output import fits, print_json, print_table, printable


def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="What finished runs left behind.")
    ],
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Write the reports of finished runs again, such as with a newer nasframe; nothing is computed."""
    from nasframe.recipe import open_run
    from nasframe.recipe.discovery import import_modules

    import_modules(plugin or ())
    paths = [str(open_run(folder).write_report()) for folder in run_dirs]
    if as_json:
        print_json(paths)
    else:
        typer.echo("\n".join(paths))


def compare(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...",
            help="What finished runs left behind; a folder of runs, or of a sweep, for all of them.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page; one that is there is replaced.")
    ] = Path("compare.html"),
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Put finished runs side by side: figures, networks, curves, and what differs between their recipes."""
    from nasframe.study import comparison
    from nasframe.study.sweep import runs_in

    folders = [run for folder in run_dirs for run in runs_in(folder)]
    found = comparison.compare(folders, plugin or ())
    comparison.write_comparison(out, found)
    if as_json:
        print_json({**found, "page": str(out)})
    else:
        _show(found, out)


def _show(found: dict[str, Any], page: Path) -> None:
    from nasframe.study.comparison import figure_rows, recipe_rows

    labels = [printable(run["label"]) for run in found["runs"]]
    tables = {
        title: [list(map(printable, (name, *values))) for name, values in rows]
        for title, rows in (("figure", figure_rows(found)), ("recipe", recipe_rows(found)))
        if rows
    }
    if not all(fits([title, *labels], rows) for title, rows in tables.items()):
        numbered = [f"run {number}" for number in range(1, len(labels) + 1)]
        typer.echo("\n".join(map(": ".join, zip(numbered, labels, strict=True))) + "\n")
        labels = numbered
    for title, rows in tables.items():
        print_table([title, *labels], rows)
        typer.echo()
    for folder, reason in found["left_out"].items():
        typer.secho(f"left out: {folder}: {printable(reason)}", err=True, fg="yellow")
    choices = found["choices"]
    typer.echo(f"{choices['alike']} of {choices['count']} choices are decided alike")
    typer.echo(f"page: {page}")
