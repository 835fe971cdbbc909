"""One trial: a run, what it cost, and what its architecture is worth."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

import torch

from nasframe.core import (
    Checkpoints,
    Genotype,
    Model,
    Testbed,
    architectures_of,
    generator_for,
    hold_out,
    scores,
    seed_for,
    supernet,
)
from nasframe.core.json_text import read_json, read_json_file
from nasframe.core.storage import append_whole, write_whole
from nasframe.errors import FormatError, UnsupportedError
from nasframe.recipe import Run
from nasframe.recipe.devices import device_named
from nasframe.recipe.discovery import import_modules
from nasframe.recipe.exploring import trains_supernet
from nasframe.study.attempt import digest, finish, held
from nasframe.study.budget import epochs_of
from nasframe.study.folder import Row
from nasframe.study.plan import Trial
from nasframe.study.statistic import kendall
from nasframe.types import Metrics

RUN: Final = "run"
CLOCK: Final = "clock.jsonl"
_SAME: Final = (
    "nasframe",
    "python",
    "torch",
    "numpy",
    "platform",
    "processor_cores",
    "device",
    "accelerator",
    "git",
)


def run_trial(trial: Trial) -> Row:
    """Run a trial, or go on with it, and judge what it found; a failure is a result as well.

    Raises:
        KeyboardInterrupt: It was interrupted; its run goes on when it is called again.
    """
    import_modules(trial.plugins)
    row = identity(trial)
    try:
        trained = trains_supernet(trial.recipe.search.score) and trial.recipe.genotype is None
        epochs = epochs_of(trial.recipe.search) if trained else ()
        clock = Clock(trial.folder / CLOCK, trial.recipe.device, epochs)
        with held(trial.folder / RUN):
            finished = finish(trial.recipe, trial.folder / RUN, clock)
            _point_to_study(trial, finished)
        return {**row, "failure": None, **_judged(trial, finished, clock)}
    except Exception as error:  # whatever a part of third parties raises
        return {**row, "failure": f"{type(error).__name__}: {error}"}


def _point_to_study(trial: Trial, finished: Run) -> None:
    """Let the report of a run say which trial it is, so that its page leads to what it is compared with."""
    path = finished.folder / "report.json"
    content, of = read_json_file(path), {"setting": trial.setting, "method": trial.method, "seed": trial.seed}
    if content.get("study") != of:
        write_whole(path, json.dumps(content | {"study": of}, indent=2) + "\n")
        finished.write_report()


def identity(trial: Trial) -> Row:
    """What tells the row of a trial from others."""
    return {
        "setting": trial.setting,
        "method": trial.method,
        "seed": trial.seed,
        "recipe": digest(trial.recipe),
    }


def _judged(trial: Trial, finished: Run, clock: "Clock") -> Row:
    """What is known of a finished run."""
    metrics, status = finished.metrics, read_json_file(finished.folder / "status.json")
    environment = read_json_file(finished.folder / "environment.json")
    by_table = trial.recipe.search.benchmark is not None
    accuracy = metrics.get("true_accuracy" if by_table else "test_accuracy")
    if accuracy is None:
        raise UnsupportedError(
            "objective: must tell an accuracy, which methods are compared by, but tells "
            f"{', '.join(metrics)}; take cross_entropy, or give the search a benchmark"
        )
    curves = read_json_file(finished.folder / "report.json")["curves"]
    return {
        "architecture": finished.architecture,
        "choices": {name: list(kept) for name, kept in finished.genotype.choices.items()},
        "accuracy": accuracy,
        "parameters": metrics["parameters"],
        "best_score": metrics.get("best_score"),
        "epochs": _epochs(trial),
        "evaluations": None if trial.recipe.search.explorer is None else trial.recipe.search.evaluations,
        "seconds": {**status["seconds"], "search_processor": clock.spent},
        "curve": clock.curve(curves.get("search/true_accuracy", [])),
        **_ranking(trial, finished),
        "environment": {name: environment.get(name) for name in _SAME},
    }


def _epochs(trial: Trial) -> int:
    """Passes over the training examples that the search made, of all of its networks."""
    search = trial.recipe.search
    if trial.recipe.genotype is not None:
        return 0
    epochs = sum(epochs_of(search))
    if trains_supernet(search.score):
        return epochs
    if search.score is not None and search.score.name == "retraining":
        return epochs * search.evaluations
    return 0


def _ranking(trial: Trial, finished: Run) -> Row:
    """How the trained supernet orders random architectures, against the table."""
    search = trial.recipe.search
    is_whole = trains_supernet(search.score) and not search.stages  # a later stage has not all candidates
    if search.benchmark is None or not trial.ranked or not is_whole:
        return {"kendall": None, "ranked": 0}
    path = finished.folder.parent / "ranking.json"
    if not path.exists():
        write_whole(path, json.dumps(_compared(trial, finished)) + "\n")
    compared = read_json_file(path)
    told = kendall(compared["scores"], compared["accuracies"])
    return {"kendall": told, "ranked": len(compared["scores"])}


def _compared(trial: Trial, finished: Run) -> Mapping[str, list[float]]:
    """Scores of single paths in the supernet, and their accuracies in the table."""
    recipe = trial.recipe
    data, device = recipe.data(), device_named(recipe.device)
    space = recipe.space(data.task)
    section = recipe.search
    torch.manual_seed(seed_for(recipe.seed, "search", "init"))
    model = supernet(space, section.mixed_op, fused=section.fused, recomputed=section.recomputed)
    saved = Checkpoints(finished.folder / "search" / "checkpoints").latest()
    if saved is None or "model" not in saved:
        raise FormatError(
            f"{finished.folder}: must have a checkpoint of the search, but has none; run it again"
        )
    model.load_state_dict(saved["model"])
    train, valid = hold_out(data.train, section.valid_fraction, recipe.seed)
    objective, trainer = recipe.objective(), section.trainer()

    def evaluate(network: Model) -> Metrics:
        return trainer.evaluate(network, objective, valid, data.preprocess)

    testbed = Testbed(
        space,
        data.task,
        objective,
        train,
        data.preprocess,
        recipe.seed,
        device,
        evaluate,
        _train_nothing,
        model.to(device).eval(),
    )
    score = scores.component("supernet")(testbed)
    assert section.benchmark is not None  # what is compared with
    table = section.benchmark()
    architectures, generator = architectures_of(space), generator_for(0, "study", "ranking")
    drawn: list[Genotype] = []
    for _ in range(trial.ranked):  # the same for each method and seed
        drawn.append(architectures.sample_beside(drawn, generator))
    return {
        "scores": [score.of(each) for each in drawn],
        "accuracies": [table.standing(each).accuracy for each in drawn],
    }


def _train_nothing(
    model: Model, genotype: Genotype, *, budget: float = 1.0, examples: float = 1.0
) -> Metrics:
    raise UnsupportedError("study: the ranking of a supernet trains nothing")


@final
class Clock:
    """The time of each record of a search, over all attempts: of the processor on the CPU, else that passed.

    A processor's time is that of its process alone, so that other work on the machine does not count. What is
    done again after an interruption keeps the time that it had at first.

    Args:
        path: One line a record: its step, and seconds since the search began.
        device: As the recipe names it.
        epochs: Those of the supernet in each stage of the search, whose records come before the scores; empty
            where there is none.
    """

    def __init__(self, path: Path, device: str, epochs: Sequence[int]) -> None:
        self._path, self._epochs, self._num_epochs = path, epochs, sum(epochs)
        self._now = time.process_time if device_named(device).type == "cpu" else time.perf_counter
        path.parent.mkdir(parents=True, exist_ok=True)
        *lines, torn = (path.read_bytes() if path.exists() else b"").split(b"\n")
        if torn:
            write_whole(path, "".join(f"{line.decode()}\n" for line in lines))
        entries = [read_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
        self._seconds: dict[int, float] = {entry["step"]: entry["seconds"] for entry in entries}
        self._before, self._started = self.spent or 0.0, self._now()
        self._epoch = 0

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        """Hear a step: an epoch is over when what follows it begins, an evaluation when it is heard."""
        name, _, which = stage.partition(" ")  # such as search 2/3
        is_search = name == "search"
        if is_search and epoch:
            former = int(which.partition("/")[0]) - 1 if which else 0
            record = sum(self._epochs[:former]) + epoch
            if self._epoch and record != self._epoch:
                self._note(self._epoch)
            self._epoch = record
        elif name in ("search", "retrain"):
            if self._num_epochs:
                self._note(self._num_epochs)
            if is_search:
                self._note(self._num_epochs + step)

    def _note(self, step: int) -> None:
        if step not in self._seconds:
            self._seconds[step] = round(self._before + self._now() - self._started, 3)
            line = json.dumps({"step": step, "seconds": self._seconds[step]}) + "\n"
            append_whole(self._path, line.encode())

    @property
    def spent(self) -> float | None:
        """Seconds of the whole search; None where nothing was heard of one."""
        return max(self._seconds.values(), default=None)

    def curve(self, values: Sequence[float | None]) -> list[tuple[float, float]]:
        """Seconds and value of each record whose time is known."""
        known = self._seconds
        return [
            (known[step], value)
            for step, value in enumerate(values, 1)
            if value is not None and step in known
        ]
