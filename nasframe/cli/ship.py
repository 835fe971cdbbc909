"""The verbs that take a finished run further."""

from pathlib import Path
from typing import Annotated

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.output import print_json


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
    """Write the network of a finished run in other formats."""
    from nasframe.recipe import open_run
    from nasframe.recipe.discovery import import_modules

    import_modules(plugin or ())
    finished = open_run(run_dir)
    paths = [str(finished.export(name, out)) for name in format_]
    if as_json:
        print_json(paths)
    else:
        typer.echo("\n".join(paths))
