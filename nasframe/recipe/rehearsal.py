"""A stage that runs for some real steps, in a process of its own, to see what it takes."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import torch

from nasframe import errors
from nasframe.core import (
    ActiveSetting,
    Algorithm,
    Around,
    Batch,
    Genotype,
    Guard,
    Job,
    Model,
    Objective,
    Subset,
    Trainer,
    WeightUpdate,
)
from nasframe.core.memory import is_out_of_memory
from nasframe.errors import NasframeError, OutOfMemoryError, TrainingError
from nasframe.recipe.devices import device_named, free_memory, peak_memory, wait_for
from nasframe.recipe.discovery import import_modules
from nasframe.recipe.loading import load_recipe
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.running import run_fitted_by
from nasframe.recipe.schema import dump_recipe
from nasframe.types import Metrics

_CODE: Final = "import sys; from nasframe.recipe.rehearsal import main; main(*sys.argv[1:])"
_MOST_STEPS: Final = 20
_SECONDS: Final = 4.0  # of measured steps; one alone is enough where it takes twice as long
_LEAST_VALIDATED: Final = 16


@final
@dataclass(frozen=True)
class Phase:
    """Steps that do the same work, such as those of a warm-up.

    Attributes:
        first_epoch: The epoch that they begin with, from 0 on.
        num_steps: How many of them the stage has.
        seconds_per_step: The median, after a step that does not count; where steps differ in the
            figures that they return, such as with alphas every fifth step, that of each sort by its share.
        num_measured: How many were measured; 0 where the stage is too short for it.
    """

    first_epoch: int
    num_steps: int
    seconds_per_step: float
    num_measured: int


@final
@dataclass(frozen=True)
class Rehearsal:
    """What some steps of a stage took, and what follows for the whole stage.

    Attributes:
        stage: ``search``, ``scoring`` (of what an explorer asks for) or ``retrain``.
        device: What it ran on.
        batch_size: Examples of a training batch.
        num_epochs: Passes over the training examples, as far as there are steps for them.
        phases: The steps of the stage.
        prepare_seconds: From the start of the process to the first step: data, networks, prices.
        validation_seconds: One validation on all held-out examples; 0 where there are none.
        num_validated: On how many examples that was measured.
        health_seconds: What all looks at the health of the search take together; 0 where nobody looks.
        peak_bytes: See `peak_memory`; None where the system does not tell.
        free_bytes: See `free_memory`, before anything was read or built.
        checkpoint_bytes: Size of one checkpoint.
        precision: What forward passes compute in, such as ``float32``.
        active: What settings came to that depend on the device.
    """

    stage: str
    device: str
    batch_size: int
    num_epochs: int
    phases: tuple[Phase, ...]
    prepare_seconds: float
    validation_seconds: float
    num_validated: int
    health_seconds: float
    peak_bytes: int | None
    free_bytes: int | None
    checkpoint_bytes: int
    precision: str
    active: tuple[ActiveSetting, ...] = ()

    @property
    def num_steps(self) -> int:
        return sum(phase.num_steps for phase in self.phases)

    @property
    def seconds(self) -> float:
        """The whole stage: its steps, and a validation and a look an epoch; without preparing it."""
        steps = sum(phase.num_steps * phase.seconds_per_step for phase in self.phases)
        return steps + self.num_epochs * self.validation_seconds + self.health_seconds


class OutOfMemory(NasframeError):
    """A step of a stage needs more memory than there is."""


def rehearse(
    recipe: Recipe, stage: str, genotype: Genotype, plugins: Sequence[Path] = (), *, skipped: int = 0
) -> Rehearsal:
    """Run some steps of a stage as `run` would, in a process of its own; nothing is left behind.

    Trackers hear nothing of it.

    Args:
        recipe: From `load_recipe`.
        stage: ``search``, ``scoring`` or ``retrain``.
        genotype: What is retrained.
        plugins: Modules of the user's that must be imported first.
        skipped: How many stages of the search are gone through without a step; what they would have
            learned is what they began with.

    Raises:
        OutOfMemory: The steps need more memory than there is.
        NasframeError: What a run would end with.
    """
    with tempfile.TemporaryDirectory(prefix="nasframe-plan-") as name:
        folder = Path(name)
        genotype.save(folder / "genotype.json")
        known = folder / "genotype.json" if stage == "retrain" else None
        quiet = replace(recipe, trackers=(), genotype=known)
        (folder / "recipe.yaml").write_text(dump_recipe(quiet), encoding="utf-8")
        status, log = _run([name, stage, str(skipped), *(str(path.resolve()) for path in plugins)], folder)
        result = folder / "result.json"
        found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    if status == -9 or "out_of_memory" in found:
        raise OutOfMemory(found.get("out_of_memory", "the system ended the process"))
    if "error" in found:
        kind, message = found["error"]
        raise getattr(errors, kind, TrainingError)(message)
    if "rehearsal" not in found:
        last_line = log.strip().rpartition("\n")[2]
        raise TrainingError(
            f"{stage}: some steps must run to be measured, but their process ended with status {status}: "
            f"{last_line}"
        )
    return _read(found["rehearsal"])


def _read(plain: Mapping[str, Any]) -> Rehearsal:
    phases = tuple(Phase(**phase) for phase in plain["phases"])
    active = tuple(ActiveSetting(**each) for each in plain["active"])
    return Rehearsal(**{**plain, "phases": phases, "active": active})


def _run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and output of a process that rehearses; whoever interrupts ends it too."""
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folder)}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **own},
        )  # fmt: skip
        try:
            status = process.wait()
        finally:
            process.kill()
            process.wait()
    return status, log.read_text(encoding="utf-8", errors="replace")


def main(name: str, stage: str, skipped: str, *plugins: str) -> None:
    """Rehearse a stage in a folder; runs in a process of its own."""
    with suppress(OSError):  # if the machine runs out of memory, this process is the one to end
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    _rehearse_in(Path(name), stage, int(skipped), plugins)


def _rehearse_in(folder: Path, stage: str, skipped: int, plugins: Sequence[str]) -> None:
    """Write into a folder what the first steps of its recipe took, or why they failed."""
    try:
        import_modules([Path(plugin) for plugin in plugins])
        recipe = load_recipe(folder / "recipe.yaml", check=False, outside=True)
        device = device_named(recipe.device)
        watch = _WatchScores(device) if stage == "scoring" else _Watch(device, skipped)
        with suppress(_Enough):
            run_fitted_by(recipe, folder / "run", watch.fit, watch.hear_run)
        found: dict[str, Any] = {"rehearsal": asdict(watch.found[0])}
    except Exception as error:
        found = _failure(error)
    (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")


def _failure(error: Exception) -> dict[str, Any]:
    cause = error.__cause__ if isinstance(error, OutOfMemoryError) else error
    if cause is not None and is_out_of_memory(cause):
        return {"out_of_memory": str(cause).partition("\n")[0]}
    message = str(error) if isinstance(error, NasframeError) else f"{type(error).__name__}: {error}"
    return {"error": [type(error).__name__, message]}


class _Enough(BaseException):
    """Enough steps were measured; no error, so that no trainer takes it for one."""


@final
class _Watch:
    """Fits as a trainer does, until enough steps are measured, and then ends the run."""

    def __init__(self, device: torch.device, skipped: int = 0) -> None:
        self._device, self._started, self._skipped = device, time.perf_counter(), skipped
        self._free = free_memory(device)
        self._steps: _Measured | None = None
        self.found: list[Rehearsal] = []

    def fit(self, trainer: Trainer, job: Job) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        prepare_seconds = time.perf_counter() - self._started
        active: list[ActiveSetting] = []

        def make(model: Model, objective: Objective) -> Algorithm:
            self._steps = _Measured(job.make_algorithm(model, objective), self._device)
            return self._steps

        with suppress(_Enough):
            trainer.fit(replace(job, make_algorithm=make, progress=self._hear, active=active.extend))
        steps = self._steps
        if steps is None or not steps.num_steps:
            raise TrainingError(
                f"{job.stage}: {type(trainer).__name__} must make a step and tell it, but did not"
            )
        validation_seconds, num_validated = self._validate(trainer, job, steps.seconds_per_example)
        steps_an_epoch = max(1, len(job.train) // steps.batch_size)
        num_epochs = -(-steps.num_steps // steps_an_epoch)
        self.found.append(
            Rehearsal(
                stage=job.stage,
                device=str(self._device),
                batch_size=steps.batch_size,
                num_epochs=num_epochs,
                phases=tuple(steps.phases_of(steps.num_steps, steps_an_epoch)),
                prepare_seconds=prepare_seconds,
                validation_seconds=validation_seconds,
                num_validated=num_validated,
                health_seconds=self._look(job.guard, num_epochs),
                peak_bytes=peak_memory(self._device),
                free_bytes=self._free,
                checkpoint_bytes=_num_bytes([job.model.state_dict(), *steps.states]),
                precision=job.model.precision,
                active=tuple(active),
            )
        )
        raise _Enough

    def hear_run(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        """Steps are heard in `fit`."""

    def _hear(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        if self._steps is not None:
            self._steps.num_steps = num_steps

    def _validate(self, trainer: Trainer, job: Job, seconds_per_example: float) -> tuple[float, int]:
        """Seconds of a whole validation, by those of as many examples as are trained on in some seconds."""
        num_valid = len(job.valid)
        if not num_valid:
            return 0.0, 0
        count = min(num_valid, max(_LEAST_VALIDATED, int(_SECONDS / seconds_per_example)))
        started = time.perf_counter()
        trainer.evaluate(job.model, job.objective, Subset(job.valid, torch.arange(count)), job.preprocess)
        wait_for(self._device)
        return (time.perf_counter() - started) * num_valid / count, count

    def _look(self, guard: Guard | None, num_epochs: int) -> float:
        """Seconds of the looks after all epochs, by one of each sort."""
        if guard is None:
            return 0.0
        epochs = [(epoch, epoch == num_epochs) for epoch in range(1, num_epochs + 1)]
        sorts = Counter(guard.costly(epoch, is_last=is_last) for epoch, is_last in epochs)
        seconds: dict[frozenset[str], float] = {}
        for epoch, is_last in epochs:
            if (sort := guard.costly(epoch, is_last=is_last)) not in seconds:
                started = time.perf_counter()
                guard.measure(epoch, {}, is_last=is_last)
                wait_for(self._device)
                seconds[sort] = time.perf_counter() - started
        return sum(seconds[sort] * count for sort, count in sorts.items())


@final
class _WatchScores:
    """Watches the scores that an explorer asks for, of a supernet that is not trained.

    Where networks are trained to be scored, it watches the steps of the first one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._watch = device, _Watch(device)
        self._free = free_memory(device)
        self._heard = [time.perf_counter()]

    @property
    def found(self) -> list[Rehearsal]:
        return self._watch.found

    def fit(self, trainer: Trainer, job: Job) -> None:
        if job.stage == "scoring":
            self._watch.fit(trainer, job)
        elif job.stage == "retrain":
            raise _Enough
        else:
            job.model.to(job.device)

    def hear_run(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        """Note when an architecture was scored."""
        wait_for(self._device)
        self._heard.append(time.perf_counter())
        first, *others = [late - early for early, late in itertools.pairwise(self._heard)]
        typical = statistics.median(others) if others else first
        prepare_seconds = max(0.0, first - typical)
        phase = Phase(0, num_steps, typical, len(others))
        self.found[:] = [
            Rehearsal(
                stage="scoring",
                device=str(self._device),
                batch_size=1,
                num_epochs=1,
                phases=(phase,),
                prepare_seconds=prepare_seconds,
                validation_seconds=0.0,
                num_validated=0,
                health_seconds=0.0,
                peak_bytes=peak_memory(self._device),
                free_bytes=self._free,
                checkpoint_bytes=0,
                precision=str(torch.get_default_dtype()).removeprefix("torch."),
            )
        ]
        if _is_enough(others):
            raise _Enough


@final
class _Measured(Around):
    """An algorithm whose steps are timed, some of each phase.

    In every epoch it is told the first one of the phase that is being measured.

    Args:
        algorithm: Owns the step.
        device: Where its steps run.

    Attributes:
        num_steps: Steps of the stage, as soon as the trainer tells them; 0 before.
        batch_size: Examples of the last training batch.
    """

    chunks: int | None = None  # a step for which memory is short shall be told, and not be split

    def __init__(self, algorithm: Algorithm, device: torch.device) -> None:
        super().__init__(algorithm)
        self._device = device
        self._num_epochs, self._since = 1, 0.0
        self._to_come = sorted({0} | algorithm.phases())
        self.num_steps = 0
        self._timings: dict[int, list[tuple[frozenset[str], float]]] = {}
        self._update: WeightUpdate | None = None
        self.batch_size = 1

    @property
    def states(self) -> list[Any]:
        """What a checkpoint holds besides the model."""
        assert self._update is not None
        return [self._update.optimizer.state_dict(), self._algorithm.state_dict()]

    @property
    def seconds_per_example(self) -> float:
        return min(each[-1][1] for each in self._timings.values()) / self.batch_size

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._to_come = [first for first in self._to_come if first < num_epochs]
        self._begin_phase()

    def _begin_phase(self) -> None:
        self._algorithm.begin_epoch(self._to_come[0], self._num_epochs)
        self._since = time.perf_counter()

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        metrics = self._algorithm.step(train, valid, update_weights)
        wait_for(self._device)
        now = time.perf_counter()
        timings = self._timings.setdefault(self._to_come[0], [])
        timings.append((frozenset(metrics), now - self._since))
        self._since, self.batch_size = now, len(train)
        self._update = update_weights
        num_phases = len({*self._timings, *self._to_come})
        is_its_share = 2 <= self.num_steps // num_phases <= len(timings)
        if is_its_share or _is_enough([seconds for _, seconds in timings[1:]]):
            if len(self._to_come) == 1:
                raise _Enough
            self._to_come = self._to_come[1:]
            self._begin_phase()
        return metrics

    def phases_of(self, num_steps: int, steps_an_epoch: int) -> Iterator[Phase]:
        """The phases of a stage; one that was never reached takes the time of the one before."""
        firsts = sorted(self._timings)
        ends = [first * steps_an_epoch for first in firsts[1:]]
        starts = [0, *ends]
        for first, start, end in zip(firsts, starts, [*ends, num_steps], strict=True):
            timings = self._timings[first]
            count = min(end, num_steps) - min(start, num_steps)
            yield Phase(first, count, _typical(timings[1:] or timings), len(timings) - 1)


def _is_enough(seconds: Sequence[float]) -> bool:
    total, count = sum(seconds), len(seconds)
    return count >= _MOST_STEPS or total >= 2 * _SECONDS or (count > 1 and total >= _SECONDS)


def _typical(timings: Sequence[tuple[frozenset[str], float]]) -> float:
    """The median of each sort of step, by its share."""
    counts = Counter(sort for sort, _ in timings)
    medians = {sort: statistics.median(s for other, s in timings if other == sort) for sort in counts}
    return sum(medians[sort] * count for sort, count in counts.items()) / len(timings)


def _num_bytes(state: Any) -> int:
    """Bytes of all tensors in a nest of plain data, each once."""
    sizes: dict[int, int] = {}

    def note(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            sizes[part.data_ptr() or id(part)] = part.nbytes
        elif isinstance(part, Mapping):
            for item in part.values():
                note(item)
        elif isinstance(part, (list, tuple)):
            for item in part:
                note(item)

    note(state)
    return sum(sizes.values())
