"""The loop of a stage: epochs of steps, validation, records, checkpoints."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    get_random_state,
    optimizers,
    schedules,
    seed_for,
    set_learning_rate,
    set_random_state,
    trainers,
)
from nasframe.errors import DataError, TrainingError
from nasframe.registry import Component
from nasframe.types import Metrics, PositiveFloat, PositiveInt

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
        precision: `bfloat16` runs forward passes under autocast; losses and weights stay float32.
        channels_last: Keep images and convolution weights in the channels-last memory format.
        chunks: Pieces that a batch is split into for the weight step, to save memory. Each has batch-norm
            statistics of its own, and moves the running ones.
        max_steps: End after so many steps even if epochs are left.
        eval_batch_size: Examples a batch in validation and test.
    """

    def __init__(
        self,
        *,
        epochs: PositiveInt = 50,
        batch_size: PositiveInt = 64,
        optimizer: Component[torch.optim.Optimizer] = _SGD,
        schedule: Component[Schedule] = _COSINE,
        max_grad_norm: PositiveFloat | None = 5.0,
        precision: Literal["float32", "bfloat16"] = "float32",
        channels_last: bool = False,
        chunks: PositiveInt = 1,
        max_steps: PositiveInt | None = None,
        eval_batch_size: PositiveInt = 256,
    ) -> None:
        self._epochs, self._batch_size, self._max_steps = epochs, batch_size, max_steps
        self._optimizer, self._schedule, self._max_grad_norm = optimizer, schedule(), max_grad_norm
        self._precision, self._channels_last, self._chunks = precision, channels_last, chunks
        self._eval_batch_size = eval_batch_size

    def fit(self, job: Job) -> None:
        state = self._start(job)
        track = job.start_tracking(state.epoch + 1)
        while state.epoch < self._epochs and state.step < state.num_steps:
            metrics = self._train_epoch(job, state)
            _check_finite(job, state.epoch + 1, metrics)
            if len(job.valid):
                valid = self.evaluate(job.model, job.objective, job.valid, job.preprocess)
                metrics.update({f"valid_{name}": float(value) for name, value in valid.items()})
            state.epoch += 1
            scalars = {f"{job.stage}/{name}": value for name, value in metrics.items()}
            track(job.describe(Record(state.epoch, scalars)))
            job.checkpoints.save(state.step, state.to_dict())

    def evaluate(self, model: Model, objective: Objective, split: Split, preprocess: Preprocess) -> Metrics:
        device = next(model.parameters()).device
        batches = BatchStream(split, preprocess, batch_size=self._eval_batch_size, device=device)
        was_training = model.training
        model.autocast(self._autocast)
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

    @property
    def _autocast(self) -> torch.dtype | None:
        return torch.bfloat16 if self._precision == "bfloat16" else None

    def _start(self, job: Job) -> "_State":
        torch.manual_seed(seed_for(job.seed, job.stage, "train"))
        model = job.model.to(job.device)
        if self._channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.autocast(self._autocast)
        weights = [weight for weight in model.parameters_at("lower") if weight.requires_grad]
        optimizer = self._optimizer(weights)
        update = WeightUpdate(
            model, job.objective, optimizer, max_grad_norm=self._max_grad_norm, chunks=self._chunks
        )
        algorithm = job.make_algorithm(model, job.objective)
        train = self._stream(job, "train", job.train)
        if algorithm.uses_valid and not len(job.valid):
            raise DataError(
                f"{job.stage}: {type(algorithm).__name__} learns from held-out examples, but there are none; "
                f"set {job.stage}.valid_fraction above 0"
            )
        valid = self._stream(job, "valid", job.valid) if algorithm.uses_valid else None
        num_steps = min(self._epochs * len(train), self._max_steps or self._epochs * len(train))
        state = _State(job.device, model, optimizer, algorithm, update, train, valid, num_steps)
        if (saved := job.checkpoints.latest()) is not None:
            state.load_dict(saved)
        return state

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

    def _train_epoch(self, job: Job, state: "_State") -> dict[str, float]:
        job.model.train()
        job.model.anneal(state.epoch / self._epochs)
        state.algorithm.begin_epoch(state.epoch, self._epochs)
        first, count, examples, started = state.step, 0, 0, time.perf_counter()
        totals: dict[str, float | torch.Tensor] = {}
        counts: dict[str, int] = {}
        valid = state.valid_batches()
        for train in state.train.epoch(state.epoch):
            position = state.epoch + (state.step - first) / len(state.train)
            set_learning_rate(state.optimizer, self._schedule, position, self._epochs)
            if count == 0:
                lr = float(state.optimizer.param_groups[0]["lr"])
            batch = self._laid_out(train)
            other = batch if valid is None else self._laid_out(next(valid))
            step = state.algorithm.step(batch, other, state.update)
            state.step, count, examples = state.step + 1, count + 1, examples + len(train)
            for name, value in step.items():
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1  # some come in some steps alone
            job.progress(job.stage, state.step, state.num_steps, state.epoch + 1, step)
            if state.step == state.num_steps:
                break
        means = {name: float(total) / counts[name] for name, total in totals.items()}
        return {**means, "lr": lr, "images_per_second": examples / (time.perf_counter() - started)}

    def _laid_out(self, batch: Batch) -> Batch:
        if self._channels_last and isinstance(batch.inputs, torch.Tensor) and batch.inputs.dim() == 4:
            return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
        return batch


def _check_finite(job: Job, epoch: int, metrics: dict[str, float]) -> None:
    """Refuse to go on with numbers that mean nothing; the checkpoint before this epoch stays."""
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    wrong += [name for name, p in job.model.named_parameters() if not p.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise TrainingError(
            f"{job.stage}: all figures and parameters must be finite after epoch {epoch}, but these are not: "
            f"{', '.join(wrong[:5])}{more}; lower the learning rate, or clip gradients (max_grad_norm)"
        )


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

    def valid_batches(self) -> Iterator[Batch] | None:
        """Batches for the upper level; which ones depends on the step alone."""
        return None if self.valid is None else self.valid.forever(self.step)

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.algorithm.state_dict(),
            "random": get_random_state(self.device),
        }

    def load_dict(self, saved: dict[str, Any]) -> None:
        self.step, self.epoch = saved["step"], saved["epoch"]
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.algorithm.load_state_dict(saved["algorithm"])
        set_random_state(saved["random"], self.device)
