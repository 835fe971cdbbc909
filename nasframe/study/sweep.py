"""Sweeps: one recipe with several values of some keys, each combination a run."""

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import torch

from nasframe import problem_kinds as kinds
from nasframe.core import Executor, Interrupts, Work, generator_for
from nasframe.core.json_text import read_json_file
from nasframe.core.storage import write_whole
from nasframe.errors import Problem, RecipeError
from nasframe.recipe import Recipe, load_recipe
from nasframe.recipe.allocator import keep_freed_memory
from nasframe.recipe.discovery import import_modules
from nasframe.recipe.run_directory import runs_below
from nasframe.recipe.yaml_text import dump_yaml, split_values
from nasframe.study.attempt import check_begun, digest, finish, held
from nasframe.study.execution import HERE, Say
from nasframe.study.folder import Folder, Row, check_same
from nasframe.study.statistic import estimate

RUNS: Final = "runs"
_FIGURES: Final = ("true_accuracy", "test_accuracy", "test_loss")
_SAFE: Final = re.compile(r"[A-Za-z0-9._=,+-]{1,120}")
_CUT: Final = 80


@final
@dataclass(frozen=True)
class Point:
    """One run of a sweep; it can be sent to another process.

    Attributes:
        values: What its recipe has at each key that is swept, as it was written.
        recipe: Complete.
        plugins: Modules of the user's that must be imported first.
    """

    values: Mapping[str, str]
    recipe: Recipe
    plugins: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of its run directory, such as ``search.trainer.epochs=2,seed=0``."""
        name = ",".join(f"{key}={value}" for key, value in self.values.items())
        if _SAFE.fullmatch(name) and not name.endswith("."):
            return name
        plain = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", name)[:_CUT]
        return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Point, (dict(self.values), self.recipe, self.plugins)


@final
@dataclass(frozen=True)
class Sweep:
    """Runs to be made.

    Attributes:
        recipe: The file or the shipped recipe's name.
        fixed: Overrides of all runs.
        keys: What is swept, with the values of each as they were written.
        points: The runs.
    """

    recipe: str
    fixed: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """The recipe's name and what tells other sweeps of it apart, but not the values."""
        said = "\n".join([str(self.recipe), *sorted(self.fixed), "", *sorted(self.keys)])
        return f"{self.points[0].recipe.name}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def load_sweep(
    recipe: str | Path,
    overrides: Sequence[str],
    plugins: Sequence[Path] = (),
    *,
    samples: int | None = None,
    check: bool = True,
    outside: bool = False,
) -> Sweep:
    """Read the recipes of all combinations, in the order of a table whose last column changes fastest.

    Args:
        recipe: A file, or the name of a shipped recipe.
        overrides: ``key=a,b,c`` sweeps a key, others hold for all runs; as in `load_recipe`.
        plugins: Python modules that register components, imported first.
        samples: Take so many of the combinations, drawn at random, the same each time; null for all.
        check: As `load_recipe`.
        outside: As `load_recipe`.

    Raises:
        RecipeError: Nothing is swept, or something is wrong with a recipe; it holds all problems.
    """
    fixed, keys = _parted(overrides)
    combinations = [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]
    if samples is not None:
        order = torch.randperm(len(combinations), generator=generator_for(0, "sweep"))
        combinations = [combinations[index] for index in order[:samples].tolist()]
    load = _Loading(recipe, plugins, check, outside)
    points: list[Point] = []
    problems: dict[tuple[str, str, str], list[tuple[str, Problem]]] = {}
    for values in combinations:
        own = [f"{key}={value}" for key, value in values.items()]
        try:
            loaded = load([*fixed, *own])
        except RecipeError as error:
            for problem in error.problems:
                said = problem.where, problem.path, f"{problem.rule} {problem.given}"
                problems.setdefault(said, []).append((", ".join(own), problem))
        else:
            threaded = replace(loaded, threads=loaded.threads or 1)
            points.append(Point(values, threaded, tuple(path.resolve() for path in plugins)))
    if problems:
        raise RecipeError([_told(entries, len(combinations)) for entries in problems.values()])
    return Sweep(str(recipe), tuple(fixed), {key: tuple(keys[key]) for key in keys}, tuple(points))


@final
class _Loading:
    """Loads recipes; those that differ in their seed alone are checked once."""

    def __init__(self, recipe: str | Path, plugins: Sequence[Path], check: bool, outside: bool) -> None:
        self._recipe, self._plugins, self._check, self._outside = recipe, plugins, check, outside
        self._checked: set[str] = set()

    def __call__(self, overrides: Sequence[str]) -> Recipe:
        loaded = self._loaded(overrides, check=False)
        same = digest(replace(loaded, seed=0))
        if self._check and same not in self._checked:
            loaded = self._loaded(overrides, check=True)
            self._checked.add(same)
        return loaded

    def _loaded(self, overrides: Sequence[str], *, check: bool) -> Recipe:
        return load_recipe(self._recipe, overrides, self._plugins, check=check, outside=self._outside)


def _parted(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """What holds for all runs, and the values of the keys that are swept."""
    fixed: list[str] = []
    keys: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for text in overrides:
        key, _, value = text.partition("=")
        values = split_values(value)
        if len(values) < 2 or text.startswith("~"):
            fixed.append(text)
            continue
        if key in keys or len(set(values)) < len(values):
            rule = "must be swept once" if key in keys else "must have values that differ from each other"
            problems.append(Problem(kinds.OUT_OF_RANGE, "command line", key, rule, f"`{value}`"))
        keys[key] = values
    if not keys:
        rule, advice = "must have several values for some key", "say KEY=A,B, such as seed=0,1,2"
        problems.append(Problem(kinds.NOT_AN_OVERRIDE, "command line", "", rule, "none", advice))
    if problems:
        raise RecipeError(problems)
    return fixed, keys


def _told(entries: Sequence[tuple[str, Problem]], count: int) -> Problem:
    """A problem of several runs, told once; and of which run, where it is not of all."""
    where, problem = entries[0]
    return problem if len(entries) == count else replace(problem, path=f"{problem.path} ({where})".strip())


def run_sweep(
    sweep: Sweep,
    out: Path,
    *,
    executor: Callable[[], Executor] = HERE,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Make the runs that are not done yet.

    Args:
        sweep: From `load_sweep`.
        out: The sweep's folder, a new one or that of a sweep of the same recipe.
        executor: Where runs are made, such as ``executors.component("processes", jobs=4)``.
        say: Hears which run ended.

    Returns:
        What ``nasframe sweep --json`` prints.

    Raises:
        FormatError: The folder holds something else.
        StorageError: It cannot be written, or another process works on it.
    """
    folder = _folder(out)
    with folder.held():
        said = {"recipe": sweep.recipe, "overrides": list(sweep.fixed)}
        keys = {key: list(values) for key, values in sweep.keys.items()}
        write_whole(folder.root / "sweep.yaml", dump_yaml({**said, "keys": keys}))
        rows = _rows(folder, sweep.points)
        left = {point.name: point for point in sweep.points if point.name not in rows}
        runs = folder.root / RUNS
        runs.mkdir(exist_ok=True)
        for name, point in left.items():
            check_begun(point.recipe, runs / name, "sweep")
        say(f"{len(sweep.points)} runs, {len(rows)} of them done; in {folder.root}")
        keep_freed_memory()
        works = [Work(name, partial(run_point, point, runs / name)) for name, point in left.items()]
        with Interrupts(), executor().opened(folder.root) as workers:
            for ended in workers.run(works):
                name = ended.work.name
                row = {**_identity(left[name]), "failure": ended.lost} if ended.lost else ended.value
                folder.append(row)
                rows[name] = row
                say(f"{len(rows)}/{len(sweep.points)} {name}: {row['failure'] or _spelled(row)}")
    return _found(sweep, folder, rows)


def runs_in(folder: Path) -> list[Path]:
    """The finished runs of a sweep, in the order in which they ended; a run itself; those that lie in others.

    Args:
        folder: Of a sweep, of a run, or of runs such as ``runs`` and ``runs/<name>``.
    """
    if (folder / "sweep.yaml").exists():
        done = {row["run"]: folder / row["run"] for _, row in _folder(folder).rows() if not row["failure"]}
        return list(done.values())
    return runs_below(folder) or [folder]


def _folder(root: Path) -> Folder:
    return Folder(root, "sweep", "sweep.jsonl")


def run_point(point: Point, folder: Path) -> Row:
    """Make a run, or go on with it; a failure is a result as well.

    Raises:
        KeyboardInterrupt: It was interrupted; it goes on when it is called again.
    """
    row = _identity(point)
    try:
        import_modules(point.plugins)
        with held(folder):
            finished = finish(point.recipe, folder)
        status = read_json_file(finished.folder / "status.json")
    except Exception as error:  # whatever a part of third parties raises
        return {**row, "failure": f"{type(error).__name__}: {error}"}
    return {
        **row,
        "failure": None,
        "architecture": finished.architecture,
        "health": finished.health,
        "metrics": finished.metrics,
        "seconds": status["seconds"],
    }


def _identity(point: Point) -> Row:
    return {
        "run": f"{RUNS}/{point.name}",
        "values": dict(point.values),
        "recipe": digest(point.recipe),
    }


def _rows(folder: Folder, points: Sequence[Point]) -> dict[str, Row]:
    """The runs that are done, by name; failed ones left out."""
    wanted = {f"{RUNS}/{point.name}": point for point in points}
    found: dict[str, Row] = {}
    for where, row in folder.rows():
        if row["failure"] is None and row["run"] in wanted:
            point = wanted[row["run"]]
            check_same(where, row, digest(point.recipe), "sweep", point.name)
            found[point.name] = row
    return found


def figure(row: Row) -> tuple[str, float] | None:
    """What a run is judged by, with its name: an accuracy, or the loss of the test; None where it failed."""
    if row["failure"]:
        return None
    name = next(name for name in _FIGURES if name in row["metrics"])
    return name, row["metrics"][name]


def _spelled(row: Row) -> str:
    name, value = figure(row) or ("", 0.0)
    return f"{name.replace('_', ' ')} " + (f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}")


def _found(sweep: Sweep, folder: Folder, rows: Mapping[str, Row]) -> dict[str, Any]:
    runs = [rows[point.name] for point in sweep.points]
    return {
        "folder": str(folder.root),
        "recipe": sweep.recipe,
        "overrides": list(sweep.fixed),
        "keys": {key: list(values) for key, values in sweep.keys.items()},
        "runs": runs,
        "over_seeds": _over_seeds(runs) if "seed" in sweep.keys else [],
    }


def _over_seeds(runs: Sequence[Row]) -> list[dict[str, Any]]:
    """The mean figure of the runs that differ in their seed alone, with its 95 % interval."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[str, float]]] = {}
    for row in runs:
        if found := figure(row):
            others = tuple((key, value) for key, value in row["values"].items() if key != "seed")
            groups.setdefault(others, []).append(found)
    told = []
    for others, figures in groups.items():
        value = estimate([each for _, each in figures])
        interval = {"mean": value.mean, "low": value.low, "high": value.high, "count": value.count}
        told.append({"values": dict(others), "figure": figures[0][0], **interval})
    return told
