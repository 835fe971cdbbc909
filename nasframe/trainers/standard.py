"""The loop of a stage: epochs of steps, validation, records, checkpoints."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal, final

import torch

from nasframe.core import (
    Algorithm,
    Batch,
    BatchStream,
    Job,
    Model,
    Objective,
    Preprocess,
    Record,
    Schedule,
    Split,
    Trainer,
    WeightUpdate,
    fast_precision,
    get_random_state,
    optimizers,
    schedules,
    seed_for,
    set_learning_rate,
    set_random_state,
    trainers,
)
from nasframe.core.finite import non_finite
from nasframe.errors import DataError, FaultWarning, NonFiniteError, TrainingError, UnsupportedError
from nasframe.registry import Component
from nasframe.types import Metrics, PositiveFloat, PositiveInt

_BFLOAT16 = torch.bfloat16
_SGD = optimizers.component("sgd")
_COSINE = schedules.component("cosine", min_lr=1e-3)


@trainers.register("standard")
@final
class Standard(Trainer):
    """Epochs over the training examples, one step of the algorithm a batch.

    The defaults are those of the DARTS search on CIFAR-10 (Liu et al. 2019, section A.1.1).

    Args:
        epochs: Passes over the training examples.
        batch_size: Examples a step, of each split that the algorithm uses.
        optimizer: Optimizer of the weights.
        schedule: Learning rate of the weights over the epochs.
        max_grad_norm: Norm that all weight gradients together are clipped to; null for no clipping.
        precision: `bfloat16` runs forward passes under autocast; losses and weights stay float32. `auto` does
            so where the device is at least 1.5 times faster with it, as measured when a stage begins, and the
            algorithm takes no finite differences.
        channels_last: Keep images and convolution weights in the channels-last memory format.
        chunks: Pieces that a batch is split into for the weight step, to save memory. Each has batch-norm
            statistics of its own, and moves the running ones.
        max_steps: End after so many steps even if epochs are left.
        eval_batch_size: Examples a batch in validation and test.
        checkpoint_minutes: Save a checkpoint after so many minutes, besides the one after each epoch.
        checkpoint_steps: Save one after so many steps, likewise.
        keep_checkpoints: How many of the newest are kept, besides the one of the lowest validation loss.
        on_non_finite: What happens in a step whose loss, gradient or alphas are not finite. `stop` ends the
            run; `skip` undoes the step and leaves its batch out, for which a copy of the state is made before
            each step; `rollback` goes on after the step with the state of the newest checkpoint, so that the
            batches since then are left out (Chowdhery et al. 2022, section 5.1).
    """

    def __init__(
        self,
        *,
        epochs: PositiveInt = 50,
        batch_size: PositiveInt = 64,
        optimizer: Component[torch.optim.Optimizer] = _SGD,
        schedule: Component[Schedule] = _COSINE,
        max_grad_norm: PositiveFloat | None = 5.0,
        precision: Literal["auto", "float32", "bfloat16"] = "float32",
        channels_last: bool = False,
        chunks: PositiveInt = 1,
        max_steps: PositiveInt | None = None,
        eval_batch_size: PositiveInt = 256,
        checkpoint_minutes: PositiveFloat | None = 15.0,
        checkpoint_steps: PositiveInt | None = None,
        keep_checkpoints: PositiveInt = 2,
        on_non_finite: Literal["stop", "skip", "rollback"] = "stop",
    ) -> None:
        self._epochs, self._batch_size, self._max_steps = epochs, batch_size, max_steps
        self._optimizer, self._schedule, self._max_grad_norm = optimizer, schedule(), max_grad_norm
        self._precision, self._channels_last, self._chunks = precision, channels_last, chunks
        self._eval_batch_size = eval_batch_size
        self._checkpoint_seconds = math.inf if checkpoint_minutes is None else 60 * checkpoint_minutes
        self._checkpoint_steps = math.inf if checkpoint_steps is None else checkpoint_steps
        self._keep_checkpoints, self._on_non_finite = keep_checkpoints, on_non_finite

    def fit(self, job: Job) -> None:
        state = self._start(job)
        track = job.start_tracking(state.epoch + 1)
        while state.epoch < self._epochs and (state.step < state.num_steps or state.so_far.steps):
            self._train_epoch(job, state)
            if state.so_far.skipped == state.so_far.steps:
                raise TrainingError(
                    f"{job.stage}: some step of epoch {state.epoch + 1} must have finite numbers, but all "
                    f"{state.so_far.steps} were left out; lower the learning rate, or look at the data"
                )
            metrics = state.so_far.means()
            if self._on_non_finite != "stop":
                metrics["skipped_steps"] = float(state.so_far.skipped)
            _check_finite(job, state.epoch + 1, metrics)
            metrics.update(self._validated(job, state))
            scalars = {f"{job.stage}/{name}": value for name, value in metrics.items()}
            with job.interrupts.deferred():
                state.epoch, state.so_far = state.epoch + 1, _SoFar()
                track(job.describe(Record(state.epoch, scalars)))
                self._save(job, state, metrics.get("valid_loss"))

    def _save(self, job: Job, state: "_State", valid_loss: float | None = None) -> None:
        job.checkpoints.save(state.step, state.to_dict(), keep=self._keep_checkpoints, valid_loss=valid_loss)

    def _validated(self, job: Job, state: "_State") -> dict[str, float]:
        """Figures of the held-out examples; whoever interrupts here loses no step of the epoch."""
        if not len(job.valid):
            return {}
        try:
            valid = self.evaluate(job.model, job.objective, job.valid, job.preprocess)
        except KeyboardInterrupt:
            self._save(job, state)
            raise
        return {f"valid_{name}": float(value) for name, value in valid.items()}

    def check(
        self, model: Model, objective: Objective, make_algorithm: Callable[[Model, Objective], Algorithm]
    ) -> None:
        self._learners(model, objective, make_algorithm)

    def evaluate(self, model: Model, objective: Objective, split: Split, preprocess: Preprocess) -> Metrics:
        device = next(model.parameters()).device
        batches = BatchStream(split, preprocess, batch_size=self._eval_batch_size, device=device)
        was_training = model.training
        if self._precision != "auto":  # which `fit` has settled; what it never saw stays in full precision
            model.autocast(_BFLOAT16 if self._precision == "bfloat16" else None)
        model.eval()
        totals: dict[str, float] = {}
        with torch.no_grad():
            for batch in batches.epoch(0):
                outputs = model(self._laid_out(batch).inputs)
                values = {"loss": objective.loss(outputs, batch.targets)}
                values.update(objective.metrics(outputs, batch.targets))  # type: ignore[arg-type]
                for name, value in values.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * len(batch)
        model.train(was_training)
        return {name: total / len(split) for name, total in totals.items()}

    def _lower_precision(self, device: torch.device, algorithm: Algorithm) -> torch.dtype | None:
        """What forward passes are to run in; None for that of the weights."""
        if self._precision == "auto" and not algorithm.takes_differences:
            return fast_precision(device)
        return _BFLOAT16 if self._precision == "bfloat16" else None

    def _start(self, job: Job) -> "_State":
        torch.manual_seed(seed_for(job.seed, job.stage, "train"))
        model = job.model.to(job.device)
        if self._channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        update, algorithm = self._learners(model, job.objective, job.make_algorithm)
        train = self._stream(job, "train", job.train)
        if algorithm.uses_valid and not len(job.valid):
            raise DataError(
                f"{job.stage}: {type(algorithm).__name__} learns from held-out examples, but there are none; "
                f"set {job.stage}.valid_fraction above 0"
            )
        valid = self._stream(job, "valid", job.valid) if algorithm.uses_valid else None
        num_steps = min(self._epochs * len(train), self._max_steps or self._epochs * len(train))
        state = _State(job.device, model, update.optimizer, algorithm, update, train, valid, num_steps)
        model.autocast(self._lower_precision(job.device, algorithm))
        if (saved := job.checkpoints.latest()) is not None:
            state.load_dict(saved)
        elif self._on_non_finite == "rollback":
            self._save(job, state)
        return state

    def _learners(
        self, model: Model, objective: Objective, make_algorithm: Callable[[Model, Objective], Algorithm]
    ) -> tuple[WeightUpdate, Algorithm]:
        """What learns the weights, and the algorithm that works with it."""
        weights = [weight for weight in model.parameters_at("lower") if weight.requires_grad]
        update = WeightUpdate(
            model,
            objective,
            self._optimizer(weights),
            max_grad_norm=self._max_grad_norm,
            chunks=self._chunks,
        )
        algorithm = make_algorithm(model, objective)
        algorithm.check_update(update)
        if self._precision == "bfloat16" and algorithm.takes_differences:
            raise UnsupportedError(
                "standard: precision must be float32 or auto where the algorithm takes finite differences, "
                "got bfloat16, which rounds nearby weights to the same; change it, or let the algorithm "
                "differentiate exactly"
            )
        return update, algorithm

    def _stream(self, job: Job, name: str, split: Split) -> BatchStream:
        return BatchStream(
            split,
            job.preprocess,
            batch_size=self._batch_size,
            device=job.device,
            training=True,
            augment=job.augment if name == "train" else (),
            seed=job.seed,
            purpose=(job.stage, name),
        )

    def _train_epoch(self, job: Job, state: "_State") -> None:
        """The steps of an epoch that are still to come, each whole."""
        job.model.train()
        job.model.anneal(state.epoch / self._epochs)
        state.algorithm.begin_epoch(state.epoch, self._epochs)
        so_far, valid = state.so_far, state.valid_batches()
        batches = state.train.epoch(state.epoch, so_far.steps)
        upper = dict(job.model.named_parameters_at("upper"))
        with job.interrupts.deferred():
            started = saved = time.perf_counter()
            for train in islice(batches, state.num_steps - state.step):
                position = state.epoch + so_far.steps / len(state.train)
                set_learning_rate(state.optimizer, self._schedule, position, self._epochs)
                lr = state.optimizer.param_groups[0]["lr"]
                batch = self._laid_out(train)
                other = batch if valid is None else self._laid_out(next(valid))
                before = copy.deepcopy(state.to_dict()) if self._on_non_finite == "skip" else None
                try:
                    metrics = state.finite_step(batch, other, upper)
                except NonFiniteError as error:
                    self._recover(job, state, before, error)
                    metrics, so_far.skipped = {}, so_far.skipped + 1
                state.step += 1
                job.progress(job.stage, state.step, state.num_steps, state.epoch + 1, metrics)
                now = time.perf_counter()
                so_far.add(metrics, len(train), now - started, lr)
                due = state.step % self._checkpoint_steps == 0 or now - saved > self._checkpoint_seconds
                if due or job.interrupts.requested:
                    self._save(job, state)
                    saved = time.perf_counter()
                if job.interrupts.requested:
                    break
                started = time.perf_counter()

    def _recover(
        self, job: Job, state: "_State", before: dict[str, Any] | None, error: NonFiniteError
    ) -> None:
        """Go on after a step with a state from before it; the step's place is kept."""
        where = f"{job.stage}: step {state.step + 1}"
        what = f"{where}: loss, gradients and alphas must be finite, but not: {error}"
        examples = state.train.examples(state.epoch, state.so_far.steps)
        what += f"; training examples {', '.join(map(str, examples))}"
        place = state.step, state.epoch, state.so_far
        if self._on_non_finite == "rollback":
            before = job.checkpoints.latest()
        if before is None:
            raise NonFiniteError(
                f"{what}; checkpoints are from before it; lower the learning rate, clip gradients "
                "(max_grad_norm), or set on_non_finite"
            ) from error
        gone = "its step is left out" if self._on_non_finite == "skip" else f"back to step {before['step']}"
        warnings.warn(f"{what}; {gone}", FaultWarning, stacklevel=2)
        state.load_dict(before)
        state.step, state.epoch, state.so_far = place

    def _laid_out(self, batch: Batch) -> Batch:
        if self._channels_last and isinstance(batch.inputs, torch.Tensor) and batch.inputs.dim() == 4:
            return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
        return batch


def _check_finite(job: Job, epoch: int, metrics: dict[str, float]) -> None:
    """Refuse to go on with numbers that mean nothing; the checkpoint before this epoch stays."""
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    wrong += non_finite({}, dict(job.model.named_parameters()))
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise TrainingError(
            f"{job.stage}: all figures and parameters must be finite after epoch {epoch}, but these are not: "
            f"{', '.join(wrong[:5])}{more}; lower the learning rate, or clip gradients (max_grad_norm)"
        )


@dataclass
class _SoFar:
    """What the steps of an epoch came to so far."""

    steps: int = 0
    skipped: int = 0
    examples: int = 0
    seconds: float = 0.0
    lr: float = 0.0
    totals: dict[str, float | torch.Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, metrics: Metrics, examples: int, seconds: float, lr: float) -> None:
        """Count one step; the learning rate of an epoch is that of its first."""
        self.lr = float(lr) if self.steps == 0 else self.lr
        self.steps, self.examples, self.seconds = (
            self.steps + 1,
            self.examples + examples,
            self.seconds + seconds,
        )
        for name, value in metrics.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1  # some come in some steps alone

    def means(self) -> dict[str, float]:
        """Each figure's mean over the steps that had it, learning rate and speed."""
        means = {name: float(total) / self.counts[name] for name, total in self.totals.items()}
        return {**means, "lr": self.lr, "images_per_second": self.examples / self.seconds}


@dataclass
class _State:
    """All that changes while a stage trains."""

    device: torch.device
    model: Model
    optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    update: WeightUpdate
    train: BatchStream
    valid: BatchStream | None
    num_steps: int
    step: int = field(default=0)
    epoch: int = field(default=0)
    so_far: _SoFar = field(default_factory=_SoFar)

    def finite_step(self, train: Batch, valid: Batch, upper: Mapping[str, torch.Tensor]) -> Metrics:
        """A step of the algorithm.

        Raises:
            NonFiniteError: Its figures or the upper-level parameters after it are not finite.
        """
        metrics = self.algorithm.step(train, valid, self.update)
        if wrong := non_finite(metrics, upper):
            raise NonFiniteError(", ".join(wrong))
        return metrics

    def valid_batches(self) -> Iterator[Batch] | None:
        """Batches for the upper level; which ones depends on the step alone."""
        return None if self.valid is None else self.valid.forever(self.step)

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "so_far": asdict(self.so_far),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.algorithm.state_dict(),
            "random": get_random_state(self.device),
            "precision": self.model.precision,
        }

    def load_dict(self, saved: dict[str, Any]) -> None:
        self.step, self.epoch, self.so_far = saved["step"], saved["epoch"], _SoFar(**saved["so_far"])
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.algorithm.load_state_dict(saved["algorithm"])
        set_random_state(saved["random"], self.device)
        if "precision" in saved:
            self.model.autocast(_BFLOAT16 if saved["precision"] == "bfloat16" else None)
