"""The loop of a stage: epochs of steps, validation, records, checkpoints."""

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, ClassVar, Literal, final

import torch
from torch import nn

from nasframe.core import (
    Algorithm,
    Batch,
    BatchStream,
    Guard,
    Job,
    Model,
    Objective,
    Preprocess,
    Record,
    Schedule,
    Split,
    Trainer,
    WeightAverage,
    WeightUpdate,
    calibrated,
    decay_groups,
    fast_precision,
    get_random_state,
    map_tensors,
    optimizers,
    schedules,
    seed_for,
    set_learning_rate,
    set_random_state,
    trainers,
)
from nasframe.core.compiled import check_compiles, compiled
from nasframe.core.dataset import ResidentSplit, is_in_memory, size_in_bytes
from nasframe.core.finite import non_finite
from nasframe.core.memory import fits, give_back_memory, is_out_of_memory
from nasframe.core.ranks import check_same, gathered, num_ranks, on_any, rank, shared
from nasframe.core.synchronized import synchronized
from nasframe.core.undo import Undo
from nasframe.errors import (
    DataError,
    FaultWarning,
    NonFiniteError,
    OutOfMemoryError,
    RankError,
    StorageError,
    TrainingError,
    UnsupportedError,
)
from nasframe.registry import Component
from nasframe.types import Metrics, PositiveFloat, PositiveInt, ProperFraction

_BFLOAT16 = torch.bfloat16
_CALIBRATION_EXAMPLES = 1280  # as many as the score of a supernet's paths takes
_SGD = optimizers.component("sgd")
_COSINE = schedules.component("cosine", min_lr=1e-3)


@trainers.register("standard")
@final
class Standard(Trainer):
    """Epochs over the training examples, one step of the algorithm a batch.

    The defaults are those of the DARTS search on CIFAR-10 (Liu et al. 2019, section A.1.1).

    Args:
        epochs: Passes over the training examples.
        batch_size: Examples a step, of each split that the algorithm uses. Several ranks share them equally,
            so that a step, and its learning rate, are those of one.
        optimizer: Optimizer of the weights.
        schedule: Learning rate of the weights over the epochs.
        weight_decay_on: Which weights the optimizer's weight decay is for: `matrices` leaves out the
            parameters of norms, and all biases.
        ema_decay: What is left of the moving average of the weights after a step, such as 0.999; less in the
            first steps. Validation sees the averages, and the training ends with them, though it goes on from
            the weights themselves; null for no average.
        max_grad_norm: Norm that all weight gradients together are clipped to; null for no clipping.
        precision: `bfloat16` runs forward passes under autocast; losses and weights stay float32. `auto` does
            so where the device is at least 1.5 times faster with it, as measured when a stage begins, and the
            algorithm takes no finite differences.
        compile: Let PyTorch compile forward and backward passes, when each sort of them is first made. That
            takes from seconds to many minutes, and is paid again by whoever resumes. Sums may be added in
            another order, so that last bits differ from those of passes that are not compiled.
        channels_last: Keep images and convolution weights in the channels-last memory format.
        resident: Whether all examples are put on the device at the start, as they were read, so that a step
            copies none: batches are the same. `auto` does so on CUDA, where the host holds them anyway and
            they take a quarter of the free memory at most. Each of several ranks holds all of them.
        chunks: Pieces that a batch is split into for the weight step, to save memory. Each has batch-norm
            statistics of its own, and moves the running ones.
        max_steps: End after so many steps even if epochs are left.
        patience: End after so many epochs without a lower validation loss; null to go on.
        ends_with: Which weights the training ends with: those of the last epoch, or of the epoch with the
            lowest validation loss.
        eval_batch_size: Examples a batch in validation and test.
        checkpoint_minutes: Save a checkpoint after so many minutes, besides the one after each epoch.
        checkpoint_steps: Save one after so many steps, likewise.
        keep_checkpoints: How many of the newest are kept, besides the one of the lowest validation loss.
        batch_norm: What batch norms of several ranks see in training: `local` each rank's share of the batch,
            with running statistics that are means over the ranks; `synchronized` the whole batch, as those of
            one rank would.
        check_steps: After how many steps it is checked that several ranks hold the same numbers, bit by bit;
            and when a stage begins.
        on_non_finite: What happens in a step whose loss, gradient or alphas are not finite. `stop` ends the
            run with a checkpoint from before the step; `skip` undoes the step and leaves its batch out;
            `rollback` goes on after the step with the state of the newest checkpoint, so that the batches
            since then are left out (Chowdhery et al. 2022, section 5.1).
        on_out_of_memory: What happens in a step for which the device has not enough memory. `split` undoes it
            and takes it again, and all later steps, with twice as many `chunks` of weights and algorithm,
            where the algorithm can: batch norm and what a pass draws are then of a piece. `stop` ends the
            run, and so does memory that is short on one of several ranks.
        on_unreadable: What happens when an example cannot be read, or has a label of no class. `stop` ends
            the run; `skip` leaves it out of its batch, and counts it.
    """

    knows_ranks: ClassVar[bool] = True
    heeds_guard: ClassVar[bool] = True

    def __init__(
        self,
        *,
        epochs: PositiveInt = 50,
        batch_size: PositiveInt = 64,
        optimizer: Component[torch.optim.Optimizer] = _SGD,
        schedule: Component[Schedule] = _COSINE,
        weight_decay_on: Literal["all", "matrices"] = "all",
        ema_decay: ProperFraction | None = None,
        max_grad_norm: PositiveFloat | None = 5.0,
        precision: Literal["auto", "float32", "bfloat16"] = "float32",
        compile: bool = False,
        channels_last: bool = False,
        resident: Literal["auto", "always", "never"] = "auto",
        chunks: PositiveInt = 1,
        max_steps: PositiveInt | None = None,
        patience: PositiveInt | None = None,
        ends_with: Literal["last", "best"] = "last",
        eval_batch_size: PositiveInt = 256,
        checkpoint_minutes: PositiveFloat | None = 15.0,
        checkpoint_steps: PositiveInt | None = None,
        keep_checkpoints: PositiveInt = 2,
        batch_norm: Literal["local", "synchronized"] = "local",
        check_steps: PositiveInt = 100,
        on_non_finite: Literal["stop", "skip", "rollback"] = "stop",
        on_out_of_memory: Literal["split", "stop"] = "split",
        on_unreadable: Literal["stop", "skip"] = "stop",
    ) -> None:
        self._epochs, self._batch_size, self._max_steps = epochs, batch_size, max_steps
        self._optimizer, self._schedule, self._max_grad_norm = optimizer, schedule(), max_grad_norm
        self._weight_decay_on, self._ema_decay = weight_decay_on, ema_decay
        self._patience, self._ends_with = patience, ends_with
        self._precision, self._channels_last, self._chunks = precision, channels_last, chunks
        self._compile, self._resident = compile, resident
        if resident == "always" and on_unreadable == "skip":
            raise UnsupportedError(
                "standard: resident must be auto or never where examples that cannot be read are left out "
                "(on_unreadable: skip), got always, which reads all of them before; change one of them"
            )
        self._eval_batch_size = eval_batch_size
        self._checkpoint_seconds = math.inf if checkpoint_minutes is None else 60 * checkpoint_minutes
        self._checkpoint_steps = math.inf if checkpoint_steps is None else checkpoint_steps
        self._keep_checkpoints, self._on_non_finite = keep_checkpoints, on_non_finite
        self._on_out_of_memory, self._on_unreadable = on_out_of_memory, on_unreadable
        self._batch_norm, self._check_steps = batch_norm, check_steps

    @property
    def uses_valid(self) -> bool:
        return self._patience is not None or self._ends_with == "best"

    def fit(self, job: Job) -> None:
        together = self._batch_norm == "synchronized" and num_ranks() > 1
        try:
            with ExitStack() as stack:
                if together:
                    stack.enter_context(synchronized(job.model))
                if self._compile:
                    check_compiles(job.model, "standard")
                    stack.enter_context(compiled(job.model))
                    job.note(
                        f"{job.stage}: passes were compiled by PyTorch {torch.__version__}: last bits may "
                        "differ from those of a training that is not"
                    )
                self._fit(job)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"{job.stage}: network, optimizers and a batch must fit the memory of {job.device}, but do "
                f"not ({_first_line(error)}); choose fewer channels, cells or layers in the space, or set "
                f"{self._smaller(job.stage)}"
            ) from error

    def _fit(self, job: Job) -> None:
        state = self._start(job)
        track = job.start_tracking(state.epoch + 1)
        while not self._is_done(job, state):
            self._train_epoch(job, state)
            if state.so_far.skipped == state.so_far.steps:
                raise TrainingError(
                    f"{job.stage}: some step of epoch {state.epoch + 1} must have finite numbers, but all "
                    f"{state.so_far.steps} were left out; lower the learning rate, or look at the data"
                )
            metrics = state.so_far.means()
            if self._on_non_finite != "stop":
                metrics["skipped_steps"] = float(state.so_far.skipped)
            if self._on_unreadable != "stop":
                metrics["unreadable_examples"] = float(state.so_far.unreadable)
            if state.update.chunks > self._chunks:
                metrics["chunks"] = float(state.update.chunks)
            _check_finite(job, state.epoch + 1, metrics)
            try:
                metrics.update(self._validated(job, state))
                seen = self._seen_by_guard(job, state, metrics)
            except KeyboardInterrupt:  # whoever interrupts here loses no step of the epoch
                self._save(job, state)
                raise
            scalars = {f"{job.stage}/{name}": value for name, value in metrics.items()}
            with job.interrupts.deferred():
                state.epoch, state.so_far = state.epoch + 1, _SoFar()
                state.note_loss(metrics.get("valid_loss"))
                is_last = self._is_last(state, state.epoch) or self._is_out_of_patience(state)
                track(job.describe(Record(state.epoch, {**scalars, **seen}, is_last=is_last)))
                if job.guard is not None and (earlier := job.guard.judge(state.epoch, state.copy_upper)):
                    state.put_back(earlier)
                self._save(job, state, metrics.get("valid_loss"))
                if on_any(job.interrupts.requested):
                    job.interrupts.request()
        self._end(job, state)

    def _end(self, job: Job, state: "_State") -> None:
        """Give the model the weights that the training ends with; they follow from the checkpoints."""
        label = job.label or job.stage
        if self._is_out_of_patience(state):
            job.note(
                f"{label}: ended after {state.epoch} of {self._epochs} epochs, because the validation "
                f"loss was lowest after epoch {state.best_epoch}"
            )
        if self._ends_with == "best" and state.best_epoch < state.epoch:
            saved = job.checkpoints.best()
            if saved is None:
                raise StorageError(
                    f"{label}: there must be a checkpoint of epoch {state.best_epoch}, which was best, "
                    "but none could be written; make room, and resume with ends_with=last"
                )
            state.load_weights(saved)
            job.note(
                f"{label}: the network is that of epoch {saved['epoch']} of {state.epoch}, with the "
                "lowest validation loss"
            )
        if state.average is not None:
            state.average.take()

    def _is_out_of_patience(self, state: "_State") -> bool:
        return self._patience is not None and state.epoch - state.best_epoch >= self._patience

    def _is_done(self, job: Job, state: "_State") -> bool:
        if job.guard is not None and job.guard.has_ended:
            return True
        if self._is_out_of_patience(state):
            return True
        return state.epoch >= self._epochs or (state.step >= state.num_steps and not state.so_far.steps)

    def _seen_by_guard(self, job: Job, state: "_State", metrics: Mapping[str, float]) -> Mapping[str, float]:
        if job.guard is None:
            return {}
        return job.guard.measure(state.epoch + 1, metrics, is_last=self._is_last(state, state.epoch + 1))

    def _is_last(self, state: "_State", epoch: int) -> bool:
        """Whether an epoch is to be the last, unless the guard ends the stage before."""
        return epoch >= self._epochs or state.step >= state.num_steps

    def _save(self, job: Job, state: "_State", valid_loss: float | None = None) -> bool:
        return job.checkpoints.save(
            state.step, state.to_dict(), keep=self._keep_checkpoints, valid_loss=valid_loss
        )

    def _validated(self, job: Job, state: "_State") -> dict[str, float]:
        """Figures of the held-out examples."""
        if not len(job.valid):
            return {}
        averaged = nullcontext() if state.average is None else state.average.in_place()
        with averaged, self._calibrated(job):
            valid = self.evaluate(job.model, job.objective, job.valid, job.preprocess)
        return {f"valid_{name}": float(value) for name, value in valid.items()}

    def _calibrated(self, job: Job) -> AbstractContextManager[None]:
        """Inside, a model that trains what it draws has the statistics of what it is validated as."""
        if not job.model.draws:
            return nullcontext()
        batches = BatchStream(
            job.train,
            job.preprocess,
            batch_size=max(self._eval_batch_size, 2),
            device=job.device,
            training=True,
            seed=job.seed,
            purpose=(job.stage, "calibration"),
            skip_unreadable=self._on_unreadable == "skip",
        )
        count = math.ceil(_CALIBRATION_EXAMPLES / batches.batch_size)
        return calibrated(job.model, islice(batches.epoch(0), count))

    def check(
        self, model: Model, objective: Objective, make_algorithm: Callable[[Model, Objective], Algorithm]
    ) -> None:
        if self._compile:
            check_compiles(model, "standard")
        self._learners(model, objective, make_algorithm)

    def evaluate(self, model: Model, objective: Objective, split: Split, preprocess: Preprocess) -> Metrics:
        device = next(model.parameters()).device
        batches = BatchStream(
            split,
            preprocess,
            batch_size=self._eval_batch_size,
            device=device,
            part=(rank(), num_ranks()),
            skip_unreadable=self._on_unreadable == "skip",
        )
        was_training = model.training
        if self._precision != "auto":  # which `fit` has settled; what it never saw stays in full precision
            model.autocast(_BFLOAT16 if self._precision == "bfloat16" else None)
        model.eval()
        try:
            with torch.no_grad():
                return self._means(model, objective, batches)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = batches.batch_size
            raise OutOfMemoryError(
                f"standard: a batch of {size} must fit the memory of {device} in validation and test, but "
                f"does not ({_first_line(error)}); set eval_batch_size={size // 2 or 1} (now {size})"
            ) from error
        finally:
            model.train(was_training)

    def _means(self, model: Model, objective: Objective, batches: BatchStream) -> Metrics:
        """Loss and metrics, over all examples of all ranks that can be read."""
        totals: dict[str, float] = {}
        count = 0
        for batch in batches.epoch(0):
            outputs = model(self._laid_out(batch).inputs)
            values = {"loss": objective.loss(outputs, batch.targets)}
            values.update(objective.metrics(outputs, batch.targets))  # type: ignore[arg-type]
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch)
            count += len(batch)
        parts = gathered((totals, count))
        num_examples = sum(count for _, count in parts)
        names = dict.fromkeys(name for totals, _ in parts for name in totals)
        return {name: sum(each.get(name, 0.0) for each, _ in parts) / num_examples for name in names}

    def _lower_precision(self, device: torch.device, algorithm: Algorithm) -> torch.dtype | None:
        """What forward passes are to run in; None for that of the weights."""
        if self._precision == "auto" and not algorithm.takes_differences:
            return shared(lambda: fast_precision(device))
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
        if self.uses_valid and not len(job.valid):
            raise DataError(
                f"{job.stage}: patience and ends_with: best need held-out examples, but there are none; set "
                f"{job.stage}.valid_fraction above 0, or leave them out"
            )
        valid = self._stream(job, "valid", job.valid) if algorithm.uses_valid else None
        num_steps = min(self._epochs * len(train), self._max_steps or self._epochs * len(train))
        state = _State(
            job.device, model, update.optimizer, algorithm, update, train, valid, num_steps, job.guard
        )
        if self._ema_decay is not None:
            state.average = WeightAverage(model, self._ema_decay)
        model.autocast(self._lower_precision(job.device, algorithm))
        if (saved := job.checkpoints.latest()) is not None:
            state.load_dict(saved)
        elif self._on_non_finite == "rollback":
            self._save(job, state)
        if num_ranks() > 1:
            job.note(self._told_of_ranks(job.stage, train.batch_size))
            check_same(f"{job.stage}: step {state.step}", state.numbers())
        return state

    def _told_of_ranks(self, stage: str, batch_size: int) -> str:
        """What a reader of the result must know of ranks."""
        norms = "the whole batch" if self._batch_norm == "synchronized" else "the share of their rank"
        return (
            f"{stage}: {num_ranks()} ranks shared each batch of {batch_size} examples, "
            f"{batch_size // num_ranks()} each, at the learning rate of the recipe; batch norms saw {norms}"
        )

    def _learners(
        self, model: Model, objective: Objective, make_algorithm: Callable[[Model, Objective], Algorithm]
    ) -> tuple[WeightUpdate, Algorithm]:
        """What learns the weights, and the algorithm that works with it."""
        weights = [weight for weight in model.parameters_at("lower") if weight.requires_grad]
        update = WeightUpdate(
            model,
            objective,
            self._weight_optimizer(model, weights),
            max_grad_norm=self._max_grad_norm,
            chunks=self._chunks,
        )
        algorithm = make_algorithm(model, objective)
        if num_ranks() > 1:
            self._check_ranks(model, algorithm)
        algorithm.check_update(update)
        if self._precision == "bfloat16" and algorithm.takes_differences:
            raise UnsupportedError(
                "standard: precision must be float32 or auto where the algorithm takes finite differences, "
                "got bfloat16, which rounds nearby weights to the same; change it, or let the algorithm "
                "differentiate exactly"
            )
        return update, algorithm

    def _weight_optimizer(self, model: Model, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self._weight_decay_on == "all":
            return self._optimizer(weights)
        optimizer: torch.optim.Optimizer = self._optimizer(decay_groups(model, weights))
        if "weight_decay" not in optimizer.defaults:
            raise UnsupportedError(
                "standard: weight_decay_on must be all where the optimizer has no weight decay, got "
                f"{self._weight_decay_on} and `{self._optimizer.name}`; leave it out, or choose another one"
            )
        return optimizer

    def _check_ranks(self, model: Model, algorithm: Algorithm) -> None:
        """Refuse what several ranks cannot do.

        Raises:
            UnsupportedError: Says what to choose instead.
        """
        ranks = f"where there are {num_ranks()} ranks"
        if not algorithm.knows_ranks:
            raise UnsupportedError(
                f"standard: the algorithm must know of ranks (`knows_ranks`) {ranks}, but "
                f"{type(algorithm).__name__} does not, and its own gradients would be those of one; run it "
                "on one"
            )
        if self._batch_size % num_ranks():
            raise UnsupportedError(
                f"standard: batch_size must be a multiple of the {num_ranks()} ranks, so that they share it "
                f"equally, got {self._batch_size}; change it, or the number of ranks"
            )
        if self._on_unreadable == "skip":
            raise UnsupportedError(
                f"standard: on_unreadable must be stop {ranks}, got skip, which would make their shares "
                "unequal; remove what cannot be read, or run on one rank"
            )
        for name, module in model.named_modules():
            if isinstance(module, nn.parallel.DistributedDataParallel) or _is_sharded(module):
                raise UnsupportedError(
                    f"standard: the network must not be wrapped {ranks}, but `{name}` is a "
                    f"{type(module).__name__}: gradients are averaged here, and steps that look through the "
                    "next one replace all weights, which sharded ones cannot be; leave the wrapper out"
                )

    def _stream(self, job: Job, name: str, split: Split) -> BatchStream:
        if len(split) < self._batch_size and len(split) % num_ranks():
            raise DataError(
                f"{job.stage}: {name} examples must be a multiple of the {num_ranks()} ranks where they are "
                f"fewer than batch_size, got {len(split)}; set batch_size to less"
            )
        return BatchStream(
            self._placed(job, name, split),
            job.preprocess,
            batch_size=self._batch_size,
            device=job.device,
            training=True,
            augment=job.augment if name == "train" else (),
            seed=job.seed,
            purpose=(job.stage, name),
            part=(rank(), num_ranks()),
            skip_unreadable=self._on_unreadable == "skip",
            num_classes=job.num_outputs,
        )

    def _placed(self, job: Job, name: str, split: Split) -> Split:
        """The split itself, or what is held of it by the device."""
        if self._resident == "never":
            return split
        if self._resident == "auto" and not (
            self._on_unreadable == "stop" and is_in_memory(split) and fits(size_in_bytes(split), job.device)
        ):
            return split
        job.note(f"{job.stage}: all {len(split)} {name} examples were held by {job.device}")
        return ResidentSplit(split, job.device)

    def _train_epoch(self, job: Job, state: "_State") -> None:
        """The steps of an epoch that are still to come, each whole."""
        job.model.train()
        job.model.anneal(state.epoch / self._epochs)
        state.algorithm.begin_epoch(state.epoch, self._epochs)
        so_far, valid = state.so_far, state.valid_batches()
        batches = state.train.epoch(state.epoch, so_far.steps)
        with job.interrupts.deferred():
            started = saved = time.perf_counter()
            for train in islice(batches, state.num_steps - state.step):
                position = state.epoch + so_far.steps / len(state.train)
                set_learning_rate(state.optimizer, self._schedule, position, self._epochs)
                lr = state.optimizer.param_groups[0]["lr"]
                batch = self._laid_out(train)
                other = batch if valid is None else self._laid_out(next(valid))
                metrics = self._step(job, state, batch, other)
                if metrics and state.average is not None:
                    state.average.update()
                so_far.unreadable += state.train.batch_size // num_ranks() - len(batch)
                so_far.unreadable += (
                    0 if state.valid is None else state.valid.batch_size // num_ranks() - len(other)
                )
                state.step += 1
                now = time.perf_counter()
                so_far.add(metrics, len(train) * num_ranks(), now - started, lr)
                told = {**metrics, "images_per_second": so_far.speed}
                job.progress(job.stage, state.step, state.num_steps, state.epoch + 1, told)
                if state.step % self._check_steps == 0 and num_ranks() > 1:
                    check_same(f"{job.stage}: step {state.step}", state.numbers())
                due = state.step % self._checkpoint_steps == 0 or now - saved > self._checkpoint_seconds
                if on_any(job.interrupts.requested):
                    job.interrupts.request()
                if due or job.interrupts.requested:
                    self._save(job, state)
                    saved = time.perf_counter()
                if job.interrupts.requested:
                    break
                started = time.perf_counter()

    def _step(self, job: Job, state: "_State", train: Batch, valid: Batch) -> Metrics:
        """A step that is made as a whole, or not at all; without figures where it was left out."""
        state.undo.keep()
        while True:
            try:
                return state.finite_step(train, valid)
            except NonFiniteError as error:
                self._leave_out(job, state, error)
                return {}
            except RankError:
                state.undo.undo()
                self._save(job, state)  # so that a rank that is gone costs this step alone
                raise
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._check_split(job, state, len(train), error)
                reason = _first_line(error)
            self._split(job, state, len(train), reason)

    def _leave_out(self, job: Job, state: "_State", error: NonFiniteError) -> None:
        """Go on after a step with a state from before it; the step's place is kept."""
        examples = state.train.examples(state.epoch, state.so_far.steps)
        what = (
            f"{job.stage}: step {state.step + 1}: loss, gradients and alphas must be finite, but not: "
            f"{error}; training examples {', '.join(map(str, examples))}"
        )
        state.undo.undo()
        saved = job.checkpoints.latest() if self._on_non_finite == "rollback" else None
        if self._on_non_finite == "stop":
            kept = "the checkpoint of the step before" if self._save(job, state) else "the newest checkpoint"
            raise NonFiniteError(
                f"{what}; {kept} has the state without it; lower the learning rate, clip gradients "
                "(max_grad_norm), or set on_non_finite"
            ) from error
        gone = "its step is left out" if saved is None else f"back to step {saved['step']}"
        warnings.warn(f"{what}; {gone}", FaultWarning, stacklevel=2)
        if saved is not None:
            place = state.step, state.epoch, state.so_far
            state.load_dict(saved)
            state.step, state.epoch, state.so_far = place
        state.so_far.skipped += 1

    def _check_split(self, job: Job, state: "_State", batch_size: int, error: Exception) -> None:
        """Refuse to make a step in smaller pieces where that cannot be, or shall not.

        Raises:
            OutOfMemoryError: Says which setting to change, and to what.
        """
        pieces, ranks = state.chunks, num_ranks()
        what = (
            f"{job.stage}: step {state.step + 1}: a batch of {batch_size} must fit the memory of "
            f"{job.device}, but does not ({_first_line(error)})"
        )
        if pieces is None:
            name = type(state.algorithm).__name__
            advice = f"{name} takes batches whole: set {self._smaller(job.stage)}"
        elif ranks > 1:
            advice = (
                f"the other ranks wait in the middle of the step, which cannot be split: set "
                f"{job.stage}.trainer.chunks, or {self._smaller(job.stage)}"
            )
        elif self._on_out_of_memory == "stop":
            advice = f"set {job.stage}.trainer.on_out_of_memory=split, or {self._smaller(job.stage)}"
        elif min(pieces) >= _most_pieces(batch_size):
            advice = (
                f"nor do {min(pieces)} pieces of it; choose fewer channels, cells or layers in the space, or "
                f"set {job.stage}.recomputed=true"
            )
        else:
            return
        raise OutOfMemoryError(f"{what}; {advice}") from error

    def _split(self, job: Job, state: "_State", batch_size: int, reason: str) -> None:
        """Undo a step, and make it and all later ones in twice as many pieces."""
        state.undo.undo()
        give_back_memory(job.device)
        state.chunks = [min(2 * count, _most_pieces(batch_size)) for count in state.chunks or ()]
        sentence = (
            f"{job.stage}: from step {state.step + 1} on, batches were computed in {state.update.chunks} "
            f"pieces, because the memory of {job.device} was short; batch norms saw a piece at a time"
        )
        warnings.warn(f"{sentence} ({reason})", FaultWarning, stacklevel=2)
        job.note(sentence)
        self._save(job, state)  # so that a resumed run splits from this step on, whatever memory it has

    def _smaller(self, stage: str) -> str:
        """Settings that take less memory."""
        half = f"{stage}.trainer.batch_size={self._batch_size // 2 or 1} (now {self._batch_size})"
        return f"{half}, or {stage}.recomputed=true"

    def _laid_out(self, batch: Batch) -> Batch:
        if self._channels_last and isinstance(batch.inputs, torch.Tensor) and batch.inputs.dim() == 4:
            return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
        return batch


def _is_sharded(module: nn.Module) -> bool:
    """Whether it holds its parameters in part, as FSDP leaves them; whoever uses that has imported it."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return (fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel)) or any(
        type(parameter.data) is not torch.Tensor for parameter in module.parameters(recurse=False)
    )


def _most_pieces(batch_size: int) -> int:
    """How many pieces a batch has at most: of two examples, for batch norms need more than one value."""
    return max(1, batch_size // 2)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


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
    unreadable: int = 0
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

    @property
    def speed(self) -> float:
        """Examples a second."""
        return self.examples / self.seconds

    def means(self) -> dict[str, float]:
        """Each figure's mean over the steps that had it, learning rate and speed."""
        means = {name: float(total) / self.counts[name] for name, total in self.totals.items()}
        return {**means, "lr": self.lr, "images_per_second": self.speed}


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
    guard: Guard | None
    average: WeightAverage | None = field(default=None)
    step: int = field(default=0)
    epoch: int = field(default=0)
    so_far: _SoFar = field(default_factory=_SoFar)
    best_loss: float = field(default=math.inf)
    best_epoch: int = field(default=0)

    def __post_init__(self) -> None:
        self.undo = Undo(self.model, self.optimizer, self.algorithm, self.device)
        self._upper = dict(self.model.named_parameters_at("upper"))

    @property
    def chunks(self) -> list[int] | None:
        """Pieces of a batch in the weights' passes, and in the algorithm's own; None if that takes none."""
        return None if self.algorithm.chunks is None else [self.update.chunks, self.algorithm.chunks]

    @chunks.setter
    def chunks(self, pieces: list[int]) -> None:
        self.update.chunks, self.algorithm.chunks = pieces

    def finite_step(self, train: Batch, valid: Batch) -> Metrics:
        """A step of the algorithm.

        Raises:
            NonFiniteError: Its figures or the upper-level parameters after it are not finite.
        """
        metrics = self.algorithm.step(train, valid, self.update)
        if wrong := non_finite(metrics, self._upper):
            raise NonFiniteError(", ".join(wrong))
        return metrics

    def note_loss(self, valid_loss: float | None) -> None:
        """Remember which epoch had the lowest validation loss."""
        if valid_loss is not None and valid_loss <= self.best_loss:
            self.best_loss, self.best_epoch = valid_loss, self.epoch

    def numbers(self) -> dict[str, Any]:
        """All that ranks must hold alike, by name."""
        return {
            **self.model.state_dict(),
            "state of the weight optimizer": self.optimizer.state_dict(),
            "state of the algorithm": self.algorithm.state_dict(),
            "state of the guard": None if self.guard is None else self.guard.state_dict(),
            "average of the weights": None if self.average is None else self.average.state_dict(),
            "random state": get_random_state(self.device),
            "place": [self.step, self.epoch, self.chunks, self.model.precision],
        }

    def valid_batches(self) -> Iterator[Batch] | None:
        """Batches for the upper level; which ones depends on the step alone."""
        return None if self.valid is None else self.valid.forever(self.step)

    def copy_upper(self) -> dict[str, Any]:
        """The upper-level parameters and the algorithm's state."""
        state = {"parameters": self._upper, "algorithm": self.algorithm.state_dict()}
        copied: dict[str, Any] = map_tensors(lambda tensor: tensor.detach().clone(), state)
        return copied

    @torch.no_grad()
    def put_back(self, upper: dict[str, Any]) -> None:
        """What `copy_upper` returned; weights and their optimizer stay."""
        for name, parameter in self._upper.items():
            parameter.copy_(upper["parameters"][name])
        self.algorithm.load_state_dict(map_tensors(torch.clone, upper["algorithm"]))

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
            "chunks": self.chunks,
            "guard": None if self.guard is None else self.guard.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": [self.best_loss, self.best_epoch],
        }

    def load_dict(self, saved: dict[str, Any]) -> None:
        self.step, self.epoch, self.so_far = saved["step"], saved["epoch"], _SoFar(**saved["so_far"])
        self.load_weights(saved)
        self.best_loss, self.best_epoch = saved.get("best", (math.inf, 0))
        self.optimizer.load_state_dict(saved["optimizer"])
        self.algorithm.load_state_dict(saved["algorithm"])
        set_random_state(saved["random"], self.device)
        if saved.get("chunks") is not None:
            self.chunks = saved["chunks"]
        if self.guard is not None and saved.get("guard") is not None:
            self.guard.load_state_dict(saved["guard"])
        if "precision" in saved:
            self.model.autocast(_BFLOAT16 if saved["precision"] == "bfloat16" else None)

    def load_weights(self, saved: dict[str, Any]) -> None:
        """Those of a checkpoint, and their average."""
        self.model.load_state_dict(saved["model"])
        if self.average is not None and saved.get("average") is not None:
            self.average.load_state_dict(saved["average"])
