"""What takes a recipe through its stages: from the start, or from where a run was left."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from nasframe.core import Executor, Progress
from nasframe.core.ranks import is_first, shared
from nasframe.core.storage import write_whole
from nasframe.errors import UnsupportedError
from nasframe.recipe.devices import default_threads, lost_by
from nasframe.recipe.exploring import trains_supernet
from nasframe.recipe.joining import check_ranks, device_of_rank, held_directory, joined, run_directory_for
from nasframe.recipe.loading import load_recipe
from nasframe.recipe.provenance import provenance_of
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.result import Run, open_run
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.schema import dump_recipe
from nasframe.recipe.stages.explorer_search import ExplorerSearch
from nasframe.recipe.stages.fitting import Fitting
from nasframe.recipe.stages.preference import Prefer, Preference
from nasframe.recipe.stages.report import Reporting
from nasframe.recipe.stages.retraining import Retraining
from nasframe.recipe.stages.search import Searching
from nasframe.recipe.stages.status import StageStatus
from nasframe.recipe.stages.supernet_search import SupernetSearch
from nasframe.recipe.stages.trackers import Trackers
from nasframe.recipe.stages.workshop import Fit, Workshop, fit_plainly
from nasframe.types import Metrics


def run(
    recipe: Recipe,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    prefer: Prefer | None = None,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    """Take a recipe through the whole search.

    Processes that a launcher such as torchrun started together share each batch.

    Args:
        recipe: From `load_recipe`.
        out: The run directory; by default a new one below ``runs/<name>/``.
        progress: Hears each step.
        prefer: Hears which architecture the search prefers, in one line, when that changes.
        executor: Where the scores of an explorer are worked out, side by side.

    Raises:
        UnsupportedError: There is an executor, but nothing that it could do.
    """
    return _run(recipe, out, progress or _silent, prefer=prefer, executor=executor)


def run_fitted_by(recipe: Recipe, out: Path, fit: Fit, progress: Progress | None = None) -> Run:
    """Take a recipe through the whole search, where `fit` is what trains: such as to watch, or to stop.

    Args:
        recipe: From `load_recipe`.
        out: A new run directory.
        fit: Called in place of ``trainer.fit(job)``.
        progress: Hears each score of an explorer.
    """
    return _run(recipe, out, progress or _silent, fit)


def _run(
    recipe: Recipe,
    out: str | Path | None,
    progress: Progress,
    fit: Fit = fit_plainly,
    prefer: Prefer | None = None,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    folder = None if out is None else Path(out)
    _check_executor(recipe, executor)
    with joined():
        check_ranks(recipe)
        device, text = str(device_of_rank(recipe.device)), dump_recipe(recipe)

        def create() -> RunDirectory:
            threads = recipe.threads or default_threads()
            directory = RunDirectory.create(folder, recipe.name, text, device, threads)
            if recipe.places:
                text_of_origins = json.dumps(provenance_of(recipe), indent=1)
                write_whole(directory.provenance, f"{text_of_origins}\n")
            return directory

        with held_directory(lambda: run_directory_for(text, folder, create)) as directory:
            return _taken_through(recipe, directory, progress, fit, prefer, executor)


def resume(
    run_dir: Path,
    progress: Progress | None = None,
    *,
    prefer: Prefer | None = None,
    outside: bool = False,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, or its first unfinished stage.

    Args:
        run_dir: What `run` left behind.
        progress: Hears each step.
        prefer: Hears which architecture the search prefers, in one line, when that changes.
        outside: Let it write files outside of the run directory, and of the folder that this runs in, that
            its recipe names.
        executor: As `run`; it need not be that of before.

    Raises:
        FormatError: `run_dir` is not a run directory.
        StorageError: Another process works on it.
    """

    def opened() -> RunDirectory:
        directory = RunDirectory.open(run_dir)
        load_recipe(directory.recipe, check=False, outside=outside)
        return directory

    with joined(), held_directory(opened) as directory:
        # the other ranks' copy lies elsewhere, so that nothing is inside of it; the first has looked
        recipe = load_recipe(directory.recipe, check=False, outside=outside or not is_first())
        check_ranks(recipe)
        _check_executor(recipe, executor)
        return _taken_through(recipe, directory, progress or _silent, prefer=prefer, executor=executor)


def _check_executor(recipe: Recipe, executor: Callable[[], Executor] | None) -> None:
    search = recipe.search
    if executor is not None and (recipe.genotype or not search.score or trains_supernet(search.score)):
        what = "one supernet is trained" if recipe.genotype is None else "the architecture is known"
        raise UnsupportedError(
            "search.explorer: must ask for scores that need no trained supernet, to be worked out "
            f"side by side, but {what}; leave out --jobs and --on"
        )


def _silent(stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
    """Progress that nobody watches."""


def _taken_through(
    recipe: Recipe,
    directory: RunDirectory,
    progress: Progress,
    fit: Fit = fit_plainly,
    prefer: Prefer | None = None,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    """Run the stages that are not finished, and note how that ended."""
    workshop = Workshop(recipe, directory, fit)
    directory.update_status(ended="running", reason=None)
    if sentence := lost_by(workshop.device, deterministic=recipe.deterministic):
        directory.note(sentence)
    try:
        with workshop.computing(recipe.threads):
            _run_stages(workshop, progress, Preference(prefer), executor)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        reason = None if stopped else f"{type(error).__name__}: {error}"
        directory.update_status(ended="interrupted" if stopped else "failed", reason=reason)
        raise
    directory.update_status(ended="done", reason=None)
    return shared(lambda: open_run(directory.root))


def _run_stages(
    workshop: Workshop,
    progress: Progress,
    preference: Preference,
    executor: Callable[[], Executor] | None,
) -> None:
    status = StageStatus(workshop.directory, workshop.device)

    def hear(stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        status.hear(stage, step)
        progress(stage, step, num_steps, epoch, metrics)

    with ExitStack() as until_told:
        trackers = Trackers(workshop, status, until_told)
        fitting = Fitting(workshop, trackers, hear)
        by_supernet = SupernetSearch(workshop, fitting, preference)
        by_explorer = ExplorerSearch(workshop, fitting, preference, executor)
        retraining = Retraining(workshop, fitting)
        stages = {
            "search": Searching(workshop, by_supernet, by_explorer).run,
            "retrain": retraining.run,
            "baseline": retraining.run_baseline,
            "report": Reporting(workshop, trackers).run,
        }
        left_out = {"baseline"} if workshop.recipe.retrain.baseline is None else set()
        for name, run_stage in stages.items():
            if not status.is_finished(name) and name not in left_out:
                with status.attempt(name):
                    run_stage()
