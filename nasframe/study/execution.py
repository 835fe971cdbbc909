"""Runs the trials of a study: what is done is not done again, what was begun goes on."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from nasframe.core import Executor, Interrupts, Work, executors
from nasframe.core.storage import write_whole
from nasframe.recipe import Recipe
from nasframe.recipe.allocator import keep_freed_memory
from nasframe.registry import Component
from nasframe.study.attempt import check_begun, digest
from nasframe.study.budget import epochs_of, with_epochs, within
from nasframe.study.folder import Folder, Row, check_same
from nasframe.study.page import write_page
from nasframe.study.plan import HEAVIEST, RANDOM_ARCHITECTURE, Trial
from nasframe.study.reading import Loaded
from nasframe.study.results import results_of, write_csv
from nasframe.study.trial import RUN, identity, run_trial
from nasframe.study.truth import Architectures

HERE: Final[Component[Executor]] = executors.component("processes")
"""One trial after the other, in this process."""

Say: TypeAlias = Callable[[str], None]
"""Hears what is being done, for people."""


def run_study(
    loaded: Loaded,
    out: Path,
    plugins: Sequence[Path] = (),
    *,
    executor: Callable[[], Executor] = HERE,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Run what of a study is not done yet, and write its results.

    Args:
        loaded: From `load_study`.
        out: The study's folder, a new one or that of the same study.
        plugins: Modules of the user's that the recipes need.
        executor: Where trials run, such as ``executors.component("processes", jobs=4)``.
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
        rows = _rows(folder, trials)
        left = [trial for trial in trials if trial.key not in rows]
        for trial in left:
            check_begun(trial.recipe, trial.folder / RUN, "study")
            trial.folder.mkdir(parents=True, exist_ok=True)
        say(f"{len(trials)} trials, {len(trials) - len(left)} of them done; in {folder.root}")
        keep_freed_memory()
        works = [Work("/".join(map(str, trial.key)), partial(run_trial, trial)) for trial in left]
        trial_of = {work.name: trial for work, trial in zip(works, left, strict=True)}
        try:
            with Interrupts(), executor().opened(folder.root) as workers:
                for ended in workers.run(works):
                    trial = trial_of[ended.work.name]
                    row = {**identity(trial), "failure": ended.lost} if ended.lost else ended.value
                    folder.append(row)
                    rows[trial.key] = row
                    failed = row["failure"] and f": {row['failure']}"
                    say(f"{len(rows)}/{len(trials)} {trial}{failed or ''}")
        finally:
            found = results_of(loaded.study, trials, rows, setup.facts, setup.budgets)
            write_whole(folder.root / "study.json", json.dumps(found, indent=1) + "\n")
            write_csv(folder.root / "study.csv", trials, rows, found)
            write_page(folder.root / "study.html", found)
    return found


def _rows(folder: Folder, trials: Sequence[Trial]) -> dict[tuple[str, str, int], Row]:
    """The trials that are done, failed ones left out.

    Raises:
        FormatError: One was of another recipe than the study says now.
    """
    wanted = {trial.key: trial for trial in trials}
    found: dict[tuple[str, str, int], Row] = {}
    for where, row in folder.rows():
        key = _key(row)
        if row["failure"] is None and key in wanted:
            check_same(where, row, digest(wanted[key].recipe), "study", str(wanted[key]))
            found[key] = row
    return found


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
            epochs = sum(epochs_of(search)) if search.stages else search.trainer.settings.get("epochs")
            return {"epochs": epochs, "evaluations": search.evaluations}

        if self._loaded.study.budget.seconds is None:
            found = measure()
        else:  # measured once, so that a study that goes on does what it did before
            found = self._folder.kept(f"budgets/{setting}/{method}.json", measure)
        self.budgets.setdefault(setting, {})[method] = found
        search = recipe.search
        if found["epochs"] is not None:
            search = with_epochs(search, found["epochs"])
        return replace(recipe, search=replace(search, evaluations=found["evaluations"]))

    def _heaviest(self, setting: str, recipe: Recipe) -> Recipe:
        """The recipe that retrains the architecture with the most multiply-adds."""
        path = self._folder.root / "facts" / f"{setting}-heaviest.json"
        if not path.exists():
            write_whole(path, json.dumps(self.facts[setting]["heaviest"]["genotype"]))
        return replace(recipe, genotype=path)


def _facts(recipe: Recipe) -> dict[str, Any]:
    return Architectures(recipe).facts()


def _key(row: Row) -> tuple[str, str, int]:
    return row["setting"], row["method"], row["seed"]
