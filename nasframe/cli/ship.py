"""The verbs that take a finished run further."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.output import print_json, print_table


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What a finished run left behind.")],
    format_: Annotated[
        list[str],
        typer.Option(
            "--format", metavar="NAME", help="An exporter, such as onnx; may be given several times."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A folder; by default export in RUN_DIR.")
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Write the network of a finished run in other formats, each checked against it on test examples."""
    from nasframe.pages.measured import table_of
    from nasframe.recipe import open_run
    from nasframe.recipe.discovery import import_modules

    import_modules(plugin or ())
    finished = open_run(run_dir)
    written = [finished.export(name, out) for name in format_]
    if as_json:
        print_json([{**asdict(each), "path": str(each.path)} for each in written])
        return
    for each in written:
        typer.echo(each.path)
        if each.max_difference is not None:
            typer.echo(f"  off by {each.max_difference:.2g} at most, on {each.num_examples} test examples")
        if each.figures:
            typer.echo()
            print_table(*table_of(each.figures))
