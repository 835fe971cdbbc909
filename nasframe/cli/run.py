"""The verbs that run a recipe."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasframe.cli.arguments import (
    Address,
    AsJson,
    Jobs,
    On,
    Outside,
    Overrides,
    Plugins,
    Quiet,
    RecipeName,
    executor_overrides,
)
from nasframe.cli.baseline import print_baseline
from nasframe.cli.output import print_json, print_table, printable
from nasframe.cli.progress import shown_progress
from nasframe.cli.startup import uncollected
from nasframe.launch import launch

if TYPE_CHECKING:
    from nasframe.core import Executor
    from nasframe.recipe import Run
    from nasframe.registry import Component


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="A new run directory; by default in runs/."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the complete recipe that would be run, and stop.")
    ] = False,
    jobs: Jobs = None,
    on: On = None,
    address: Address = None,
    plugin: Plugins = None,
    outside: Outside = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Take a recipe through the whole search; started by torchrun, on several ranks."""
    with uncollected():
        from nasframe.recipe import dump_recipe, load_recipe
        from nasframe.recipe import run as run_recipe
        from nasframe.recipe.allocator import keep_freed_memory
        from nasframe.recipe.joining import joined

    with joined():
        with uncollected():
            complete = load_recipe(recipe, overrides or (), plugin or (), outside=outside)
            executor = _executor(on, jobs, address)
        is_alone = launch().num_ranks == 1  # otherwise another rank may make it now, or have made it before
        if is_alone and out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise typer.BadParameter(
                f"--out {out} must be a new or empty folder, but holds something; go on with it by "
                f"`nasframe resume {out}`, or choose another"
            )
        if dry_run:
            if launch().is_first:
                typer.echo(dump_recipe(complete), nl=False)
            return
        keep_freed_memory()
        with (
            _resumable(out or Path("runs") / complete.name, plugin or ()),
            shown_progress(quiet=quiet) as shown,
        ):
            finished = run_recipe(complete, out, shown, prefer=shown.prefer, executor=executor)
    _show(finished, as_json, quiet)


def resume(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What an interrupted run left behind.")],
    jobs: Jobs = None,
    on: On = None,
    address: Address = None,
    plugin: Plugins = None,
    outside: Outside = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that was interrupted."""
    with uncollected():
        from nasframe.recipe import resume as resume_run
        from nasframe.recipe.allocator import keep_freed_memory
        from nasframe.recipe.discovery import import_modules

    if launch().is_first and not (run_dir / "recipe.yaml").is_file():  # others may not see it
        raise typer.BadParameter(f"{run_dir} must be a run directory, but has no recipe.yaml")
    import_modules(plugin or ())
    executor = _executor(on, jobs, address)
    keep_freed_memory()
    with _resumable(run_dir, plugin or ()), shown_progress(quiet=quiet) as shown:
        finished = resume_run(run_dir, shown, prefer=shown.prefer, outside=outside, executor=executor)
    _show(finished, as_json, quiet)


def _executor(on: str | None, jobs: int | None, address: str | None) -> "Component[Executor] | None":
    """Where scores are worked out, if anything is said of it."""
    from nasframe.recipe.executing import read_executor

    said = executor_overrides(on, jobs, address)
    return read_executor(said) if said else None


@contextmanager
def _resumable(folder: Path, plugins: Sequence[Path]) -> Iterator[None]:
    """When the user interrupts, say how to go on; the newest run in `folder` is theirs."""
    try:
        yield
    except KeyboardInterrupt:
        found = [*folder.glob("status.json"), *folder.glob("*/status.json")]
        if found and launch().is_first:
            newest = max(found, key=lambda path: path.stat().st_mtime).parent
            needed = "".join(f" --plugin {plugin}" for plugin in plugins)
            needed += " --outside" if _writes_outside(newest / "recipe.yaml") else ""
            typer.echo(f"\ninterrupted; go on with: nasframe resume {newest}{needed}", err=True)
        elif launch().is_first:
            typer.echo("\ninterrupted before anything was done", err=True)
        raise typer.Exit(130) from None


def _writes_outside(recipe: Path) -> bool:
    from nasframe.errors import RecipeError
    from nasframe.recipe import load_recipe

    try:
        load_recipe(recipe, check=False)
    except RecipeError:
        return True
    return False


def _show(finished: "Run", as_json: bool, quiet: bool) -> None:
    """What was found, and where it is; told by one rank."""
    if not launch().is_first:
        return
    report = json.loads((finished.folder / "report.json").read_text(encoding="utf-8"))
    if as_json:
        paths = {"folder": str(finished.folder), "report": str(finished.report)}
        genotype = json.loads(finished.genotype.to_json())
        found = {"architecture": finished.architecture, "genotype": genotype, "health": finished.health}
        found["baseline"] = report.get("baseline", {})
        print_json({**paths, "metrics": finished.metrics, **found})
        return
    if quiet:
        typer.echo(str(finished.folder))
        return
    rows = list(_figures(finished.metrics, report.get("tradeoff", {})))
    rows += [["search", printable(finished.health)]] if finished.health else []
    rows += [["found", printable(finished.genotype.summary)]]
    rows += [
        ["results", str(finished.folder)],
        ["report", str(finished.report)],
        ["weights", str(finished.folder / "retrain" / "model.safetensors")],
        *(["exported", str(path)] for path in finished.exported),
        ["curves", f"tensorboard --logdir {finished.folder}"],
    ]
    rows += [["note", note] for note in report["notes"]]
    print_table(["result", ""], rows)
    print_baseline(report.get("baseline", {}))
    if finished.architecture is not None:
        # on a line of its own, which a terminal does not fold, so that it can be copied
        typer.echo(f"\narchitecture\n{printable(finished.architecture)}")


def _figures(metrics: Mapping[str, float], tradeoff: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row for each figure, costs with their unit; a mean and its standard deviation share one."""
    costs = {
        "derived_cost": "{} of the architecture",
        "measured_cost": "{} of the network, measured",
        "max_cost": "largest {} allowed",
    }
    for name, value in metrics.items():
        if name in costs and tradeoff:
            yield [costs[name].format(tradeoff["cost"]), f"{_spell(name, value)} {tradeoff['unit']}".strip()]
            continue
        figure, _, which = name.rpartition("_")
        spread = metrics.get(f"{figure}_std")
        if spread is None or which not in ("mean", "std"):
            yield [name.replace("_", " "), _spell(name, value)]
        elif which == "mean":
            spelled = f"{_spell(figure, value)} ± {_spell(figure, spread)}"
            yield [f"{figure} of all seeds".replace("_", " "), spelled]


def _spell(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
