"""The verb that compares methods."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from nasframe.cli.arguments import Address, AsJson, Jobs, On, Outside, Plugins, executor_overrides
from nasframe.cli.output import print_json, print_table
from nasframe.cli.startup import uncollected

_TITLES: Final = {
    "accuracy": "accuracy",
    "ranks": "rank",
    "RI %": "random",
    "τ": "kendall",
    "search s": "seconds",
}


def study(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="a.b.c=value lays a value over the study (overrides.data.path=FOLDER), ~a.b deletes one.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Of the study, where it goes on; by default runs/studies/NAME."
        ),
    ] = None,
    jobs: Jobs = None,
    on: On = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all recipes, tell how many trials there are, and stop.")
    ] = False,
    plugin: Plugins = None,
    outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Compare methods over seeds at equal budgets, and with random choice; goes on where it was stopped."""
    with uncollected():
        from nasframe.recipe.discovery import import_modules
        from nasframe.recipe.executing import read_executor
        from nasframe.study.execution import run_study
        from nasframe.study.reading import load_study

        import_modules(plugin or ())
        executor = read_executor(executor_overrides(on, jobs, address))
        loaded = load_study(study, overrides or (), plugin or (), outside=outside)
    folder = out or Path("runs") / "studies" / loaded.study.name
    if dry_run:
        typer.echo(f"{loaded.study.name} is valid: {loaded.num_trials} trials")
        if text := executor().preview(folder.absolute(), loaded.num_trials):
            typer.echo(f"\n{text}", nl=False)
        return
    plugins = [path.resolve() for path in plugin or ()]
    try:
        found = run_study(loaded, folder, plugins, executor=executor, say=_say)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; go on with the same command", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(found)
    else:
        _show(found, folder)
    raise typer.Exit(1 if found["failures"] else 0)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _show(found: dict[str, Any], folder: Path) -> None:
    from nasframe.study.page import state_of, table_of

    for name, setting in found["settings"].items():
        titles = {name: "method", **_TITLES}
        rows = table_of(setting)
        shown = [column for column in titles.values() if any(row[column] for row in rows)]
        header = [title for title, column in titles.items() if column in shown]
        print_table(header, [[row[column] for column in shown] for row in rows])
        typer.echo()
    typer.echo(state_of(found))
    for failure in found["failures"]:
        where = f"{failure['setting']}, {failure['method']}, seed {failure['seed']}"
        typer.secho(f"failed: {where}: {failure['failure']}", err=True, fg="red")
    print_table(["result", ""], [[name, str(folder / f"study.{name}")] for name in ("html", "csv", "json")])
