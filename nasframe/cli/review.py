"""The verbs that look at finished runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.output import print_json, print_table, printable


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
        list[Path], typer.Argument(metavar="RUN_DIR...", help="What finished runs left behind.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page; one that is there is replaced.")
    ] = Path("compare.html"),
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Put finished runs side by side: figures, networks, curves, and what differs between their recipes."""
    from nasframe.study import comparison

    found = comparison.compare(run_dirs, plugin or ())
    comparison.write_comparison(out, found)
    if as_json:
        print_json({**found, "page": str(out)})
    else:
        _show(found, out)


def _show(found: dict[str, Any], page: Path) -> None:
    from nasframe.study.comparison import figure_rows, recipe_rows

    labels = [run["label"] for run in found["runs"]]
    for title, rows in (("figure", figure_rows(found)), ("recipe", recipe_rows(found))):
        if rows:
            print_table([title, *labels], [[name, *map(printable, values)] for name, values in rows])
            typer.echo()
    choices = found["choices"]
    typer.echo(f"{choices['alike']} of {choices['count']} choices are decided alike")
    typer.echo(f"page: {page}")
