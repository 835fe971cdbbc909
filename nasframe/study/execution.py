"""Runs the trials of a study: what is done is not done again, what was begun goes on."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from filelock import FileLock, Timeout

from nasframe.core import Interrupts
from nasframe.core.json_text import read_json, read_json_file
from nasframe.core.storage import append_whole, reason_of, write_whole
from nasframe.errors import FormatError, StorageError
from nasframe.recipe import Recipe
from nasframe.recipe.allocator import keep_freed_memory
from nasframe.study.budget import within
from nasframe.study.page import write_page
from nasframe.study.plan import HEAVIEST, RANDOM_ARCHITECTURE, Trial
from nasframe.study.reading import Loaded
from nasframe.study.results import results_of, write_csv
from nasframe.study.trial import Row, check_begun, digest, run_trial
from nasframe.study.truth import Architectures

_MOST_DEATHS: Final = 3

Execute: TypeAlias = Callable[[Sequence[Trial]], Iterator[Row]]
"""Runs independent trials anywhere, and yields the row of each as it ends, in any order."""
Say: TypeAlias = Callable[[str], None]
"""Hears what is being done, for people."""


def run_study(
    loaded: Loaded,
    out: Path,
    plugins: Sequence[Path] = (),
    *,
    jobs: int = 1,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Run what of a study is not done yet, and write its results.

    Args:
        loaded: From `load_study`.
        out: The study's folder, a new one or that of the same study.
        plugins: Modules of the user's that the recipes need.
        jobs: Trials that run at a time, each in a process of its own with one thread; with 1 in this one.
        say: Hears which trial ended.

    Returns:
        What ``study.json`` has.

    Raises:
        FormatError: The folder holds something else.
        StorageError: It cannot be written, or another process works on it.
        NasframeError: The budget does not fit a method, or an architecture cannot be told.
    """
    folder = Folder(out)
    with folder.held():
        write_whole(folder.root / "study.yaml", loaded.text)
        setup = _Setup(loaded, folder, tuple(plugins))
        trials = list(setup.trials())
        rows = folder.rows(trials)
        named = {trial.key: trial for trial in trials}
        left = [trial for trial in trials if trial.key not in rows]
        for trial in left:
            check_begun(trial)
        say(f"{len(trials)} trials, {len(trials) - len(left)} of them done; in {folder.root}")
        execute = run_here if jobs == 1 else _Pool(jobs)
        try:
            for row in execute(left):
                folder.append(row)
                rows[_key(row)] = row
                failed = row["failure"] and f": {row['failure']}"
                say(f"{len(rows)}/{len(trials)} {named[_key(row)]}{failed or ''}")
        finally:
            found = results_of(loaded.study, trials, rows, setup.facts, setup.budgets)
            write_whole(folder.root / "study.json", json.dumps(found, indent=1) + "\n")
            write_csv(folder.root / "study.csv", trials, rows, found)
            write_page(folder.root / "study.html", found)
    return found


def run_here(trials: Sequence[Trial]) -> Iterator[Row]:
    """Run one trial after the other in this process."""
    keep_freed_memory()
    for trial in trials:
        yield run_trial(trial)


@final
class Folder:
    """The files of one study (their names are public: docs/studies.md).

    Args:
        root: Made if it is not there.

    Raises:
        FormatError: It holds something that is no study.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        names = {path.name for path in root.iterdir()} if root.is_dir() else set()
        if (root.exists() and not root.is_dir()) or (names - {"lock"} and "study.yaml" not in names):
            raise FormatError(
                f"{root}: must be a new or empty folder, or that of a study, but holds something else; "
                "choose another --out"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{root}: must be a folder that can be made, but {reason_of(error)}"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, no other process runs trials of this study.

        Raises:
            StorageError: Another process does.
        """
        lock = FileLock(self.root / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StorageError(
                f"{self.root}: must be worked on by one process alone, but another one runs its trials; "
                "wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def trials(self) -> Path:
        return self.root / "trials.jsonl"

    def rows(self, trials: Sequence[Trial]) -> dict[tuple[str, str, int], Row]:
        """The trials that are done, failed ones left out; a torn line is dropped.

        Raises:
            FormatError: One was of another recipe than the study says now.
        """
        content = self.trials.read_bytes() if self.trials.exists() else b""
        *lines, torn = content.split(b"\n")
        if torn:
            write_whole(self.trials, "".join(f"{line.decode()}\n" for line in lines))
        wanted = {trial.key: trial for trial in trials}
        found: dict[tuple[str, str, int], Row] = {}
        for number, line in enumerate(lines, 1):
            row = read_json(line, f"{self.trials}:{number}")
            key = _key(row)
            if row["failure"] is None and key in wanted:
                found[key] = row
                if row["recipe"] != digest(wanted[key].recipe):
                    raise FormatError(
                        f"{self.trials}:{number}: must be of what the study says, but {wanted[key]} was run "
                        "with another recipe, or by a nasframe with other defaults; choose another --out, or "
                        "go back to those"
                    )
        return found

    def append(self, row: Row) -> None:
        """Write a row, all or nothing.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            append_whole(self.trials, (json.dumps(row) + "\n").encode())
        except OSError as error:
            raise StorageError(f"{self.trials}: must be writable, but {reason_of(error)}") from error

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Plain data that is made once and then stays as it is."""
        path = self.root / name
        if not path.exists():
            write_whole(path, json.dumps(make(), indent=1) + "\n")
        return read_json_file(path)


@final
class _Setup:
    """Makes the trials of a study.

    Attributes:
        facts: By setting, what is known of its architectures without a trial; see `Architectures.facts`.
        budgets: By setting and method, the epochs and evaluations of a search.
    """

    def __init__(self, loaded: Loaded, folder: Folder, plugins: tuple[Path, ...]) -> None:
        self._loaded, self._folder, self._plugins = loaded, folder, plugins
        self.facts: dict[str, dict[str, Any]] = {}
        self.budgets: dict[str, dict[str, dict[str, Any]]] = {}

    def trials(self) -> Iterator[Trial]:
        """All trials: of one setting after the other, and there of one seed after the other."""
        recipes = {key: self._budgeted(*key, recipe) for key, recipe in self._loaded.recipes.items()}
        for setting in self._loaded.study.settings:
            random = recipes.pop((setting, RANDOM_ARCHITECTURE))
            self.facts[setting] = self._folder.kept(f"facts/{setting}.json", partial(_facts, random))
            if random.search.benchmark is None:  # where there is a table, both are known from it
                recipes[setting, RANDOM_ARCHITECTURE] = random
                recipes[setting, HEAVIEST] = self._heaviest(setting, random)
            here = {method: recipe for (name, method), recipe in recipes.items() if name == setting}
            for seed in self._loaded.study.seeds:
                for method, recipe in here.items():
                    folder = self._folder.root / "trials" / setting / method / str(seed)
                    own, ranked = replace(recipe, seed=seed), self._loaded.study.ranked
                    yield Trial(setting, method, seed, own, folder, ranked, self._plugins)

    def _budgeted(self, setting: str, method: str, recipe: Recipe) -> Recipe:
        if method == RANDOM_ARCHITECTURE:
            return recipe

        def measure() -> dict[str, Any]:
            search = within(recipe, self._loaded.study.budget, self._plugins).search
            return {"epochs": search.trainer.settings.get("epochs"), "evaluations": search.evaluations}

        if self._loaded.study.budget.seconds is None:
            found = measure()
        else:  # measured once, so that a study that goes on does what it did before
            found = self._folder.kept(f"budgets/{setting}/{method}.json", measure)
        self.budgets.setdefault(setting, {})[method] = found
        trainer = recipe.search.trainer
        if found["epochs"] is not None:
            trainer = replace(trainer, settings={**trainer.settings, "epochs": found["epochs"]})
        return replace(
            recipe, search=replace(recipe.search, trainer=trainer, evaluations=found["evaluations"])
        )

    def _heaviest(self, setting: str, recipe: Recipe) -> Recipe:
        """The recipe that retrains the architecture with the most multiply-adds."""
        path = self._folder.root / "facts" / f"{setting}-heaviest.json"
        if not path.exists():
            write_whole(path, json.dumps(self.facts[setting]["heaviest"]["genotype"]))
        return replace(recipe, genotype=path)


def _facts(recipe: Recipe) -> dict[str, Any]:
    return Architectures(recipe).facts()


@final
class _Pool:
    """Runs trials in processes, each with one thread and of its own for every trial.

    Args:
        jobs: How many at a time.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def __call__(self, trials: Sequence[Trial]) -> Iterator[Row]:
        left = {trial.key: trial for trial in trials}
        for _ in range(_MOST_DEATHS):
            with suppress(BrokenProcessPool):
                for row in self._rows(list(left.values())):
                    del left[_key(row)]
                    yield row
            if not left:
                return
        raise StorageError(
            f"study: processes must end their trials, but {_MOST_DEATHS} times one was killed, such as for a "
            "lack of memory; start it again with fewer --jobs, and it goes on"
        )

    def _rows(self, trials: Sequence[Trial]) -> Iterator[Row]:
        keep_freed_memory()
        context = multiprocessing.get_context("spawn")
        with (
            Interrupts(),
            ProcessPoolExecutor(self._jobs, context, _alone, max_tasks_per_child=1) as pool,
        ):
            waiting: set[Future[Row]] = {pool.submit(run_trial, trial) for trial in trials}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for child in multiprocessing.active_children():
                    child.terminate()  # its run ends with a checkpoint
                raise


def _key(row: Row) -> tuple[str, str, int]:
    return row["setting"], row["method"], row["seed"]


def _alone() -> None:
    """Let a process hear no key of the terminal, since it is told when to end; one thread suffices it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "setsid"):
        os.setsid()
