"""The verbs that run a recipe."""

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

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


_COARSE: Final = 1.0  # seconds by which a file's time may be behind the clock


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
        from nasframe.recipe.run_directory import is_free, unusable_for_run

    with joined():
        with uncollected():
            complete = load_recipe(recipe, overrides or (), plugin or (), outside=outside)
            executor = _executor(on, jobs, address)
        is_alone = launch().num_ranks == 1  # otherwise another rank may make it now, or have made it before
        if is_alone and out is not None and not is_free(out):
            raise typer.BadParameter(f"--out {out}: {unusable_for_run(out)}")
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
    context: typer.Context,
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
        from nasframe.recipe.run_directory import no_run

    if launch().is_first and not (run_dir / "recipe.yaml").is_file():  # others may not see it
        raise typer.BadParameter(f"{run_dir}: {no_run(run_dir, finished=False)}")
    if unwanted := context.args:
        raise typer.BadParameter(
            f"a run goes on by the recipe that it was started with, got {' '.join(unwanted)}; leave it out, "
            f"or begin another: `nasframe run {shlex.join([str(run_dir / 'recipe.yaml'), *unwanted])}`"
        )
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
    """When the user interrupts, or what is not the recipe's fault ends the run, say how to go on."""
    from nasframe.errors import DataError, StorageError
    from nasframe.recipe.run_directory import is_free

    started = time.time() - _COARSE
    try:
        yield
    except KeyboardInterrupt:
        newest = _newest(folder)
        if newest is not None and launch().is_first:
            going_on = _resuming(newest, plugins)
            typer.echo(f"\ninterrupted; go on with: {going_on}", err=True)
        elif launch().is_first:
            typer.echo("\ninterrupted before anything was done", err=True)
        raise typer.Exit(130) from None
    except (DataError, StorageError) as error:
        newest = _newest(folder, since=started)
        if newest is not None and not is_free(newest):
            error.add_note(f"what was done until then is kept; go on with: {_resuming(newest, plugins)}")
        raise


def _newest(folder: Path, since: float = 0.0) -> Path | None:
    """The run directory in a folder, or the folder itself, that was written to last; None before `since`."""
    times = {
        path.parent: path.stat().st_mtime
        for path in (*folder.glob("status.json"), *folder.glob("*/status.json"))
    }
    newest = max(times, key=times.__getitem__, default=None)
    return None if newest is None or times[newest] < since else newest


def _resuming(folder: Path, plugins: Sequence[Path]) -> str:
    needed = "".join(f" --plugin {plugin}" for plugin in plugins)
    needed += " --outside" if _writes_outside(folder / "recipe.yaml") else ""
    return f"nasframe resume {folder}{needed}"


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
    from nasframe.pages.words import figures_told

    rows = [list(row) for row in figures_told(finished.metrics, report.get("tradeoff", {}))]
    rows += [["search", printable(finished.health)]] if finished.health else []
    rows += [["found", printable(finished.genotype.summary)]]
    folder = _from_here(finished.folder)
    rows += [
        ["results", str(folder)],
        ["report", str(_from_here(finished.report))],
        ["weights", str(folder / "retrain" / "model.safetensors")],
        *(["exported", str(_from_here(path))] for path in finished.exported),
        ["curves", f"tensorboard --logdir {folder}"],
    ]
    rows += [["note", note] for note in report["notes"]]
    print_table(["result", ""], rows)
    print_baseline(report.get("baseline", {}))
    if finished.architecture is not None:
        # on a line of its own, which a terminal does not fold, so that it can be copied
        typer.echo(f"\narchitecture\n{printable(finished.architecture)}")


def _from_here(path: Path) -> Path:
    """A path below the working folder from there, so that it is short enough to be copied from a line."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
