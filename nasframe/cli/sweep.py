"""The verb that runs a recipe with several values of some keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nasframe.cli.arguments import Address, AsJson, Jobs, On, Outside, Plugins, RecipeName, executor_overrides
from nasframe.cli.completion import complete_override
from nasframe.cli.output import print_json, print_table, printable
from nasframe.cli.startup import uncollected


def sweep(
    recipe: RecipeName,
    overrides: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=A,B,C...",
            help="Each combination of the values is a run; KEY=VALUE and ~KEY hold for all of them.",
            show_default=False,
            autocompletion=complete_override,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Of the sweep, where it goes on; by default runs/sweeps/NAME-HASH."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", metavar="N", min=1, help="Only N of the combinations, drawn at random."),
    ] = None,
    jobs: Jobs = None,
    on: On = None,
    address: Address = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all recipes, show the runs and what SLURM would get.")
    ] = False,
    plugin: Plugins = None,
    outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe with each combination of several values; goes on where it was stopped."""
    with uncollected():
        from nasframe.recipe.discovery import import_modules
        from nasframe.recipe.executing import read_executor
        from nasframe.study.sweep import load_sweep, run_sweep

        import_modules(plugin or ())
        executor = read_executor(executor_overrides(on, jobs, address))
        loaded = load_sweep(recipe, overrides, plugin or (), samples=samples, outside=outside)
    folder = out or Path("runs") / "sweeps" / loaded.name
    if dry_run:
        print_table(["run"], [[point.name] for point in loaded.points])
        typer.echo(f"\n{len(loaded.points)} runs, all valid; in {folder}")
        if text := executor().preview(folder.absolute(), len(loaded.points)):
            typer.echo(f"\n{text}", nl=False)
        return
    try:
        found = run_sweep(loaded, folder, executor=executor, say=_say)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; go on with the same command", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(found)
    else:
        _show(found)
    raise typer.Exit(1 if any(row["failure"] for row in found["runs"]) else 0)


def _say(text: str) -> None:
    typer.echo(printable(text), err=True)


def _show(found: dict[str, Any]) -> None:
    from nasframe.study.sweep import figure

    keys = list(found["keys"])
    titles = _titles(keys)
    figures = [told[0] for row in found["runs"] if (told := figure(row))]
    name = figures[0] if figures else "result"
    rows = []
    for row in found["runs"]:
        told = figure(row)
        seconds = row.get("seconds", {})
        parts = [f"{seconds[stage]:.1f}" if stage in seconds else "" for stage in ("search", "retrain")]
        result = [_spell(*told), f"{row['metrics']['parameters']:,.0f}"] if told else ["failed", ""]
        rows.append([*(row["values"][key] for key in keys), *result, *parts])
    print_table([*titles, name.replace("_", " "), "parameters", "search s", "retrain s"], rows)
    if found["over_seeds"]:
        others = [key for key in keys if key != "seed"]
        typer.echo()
        print_table(
            [*_titles(others), f"mean {name.replace('_', ' ')}", "95 % interval", "seeds"],
            [[*(each["values"][key] for key in others), *_over_seeds(each)] for each in found["over_seeds"]],
        )
    typer.echo(f"\nresults  {found['folder']}")
    for row in found["runs"]:
        if row["failure"]:
            typer.secho(f"failed: {row['run']}: {printable(row['failure'])}", err=True, fg="red")


def _over_seeds(told: dict[str, Any]) -> list[str]:
    spelled = [
        _spell(told["figure"], told[name]) for name in ("mean", "low", "high") if told[name] is not None
    ]
    return [spelled[0], " to ".join(spelled[1:]), str(told["count"])]


def _spell(name: str, value: float) -> str:
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"


def _titles(keys: Sequence[str]) -> list[str]:
    """The last parts of keys, as many as tell them apart."""
    titles = []
    for key in keys:
        parts = key.split(".")
        shortest = next(
            count
            for count in range(1, len(parts) + 1)
            if sum(other.split(".")[-count:] == parts[-count:] for other in keys) == 1
        )
        titles.append(".".join(parts[-shortest:]))
    return titles
