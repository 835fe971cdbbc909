"""The loop of a stage: epochs of steps, validation, records, checkpoints."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from itertools import islice
from typing import ClassVar, Literal, final

import torch
from torch import nn

from nasframe.core import (
    Algorithm,
    BatchStream,
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
    decay_groups,
    optimizers,
    schedules,
    seed_for,
    set_learning_rate,
    trainers,
)
from nasframe.core.compiled import check_compiles, compiled
from nasframe.core.finite import non_finite
from nasframe.core.memory import is_out_of_memory
from nasframe.core.ranks import check_same, num_ranks, on_any, rank
from nasframe.core.synchronized import synchronized
from nasframe.errors import (
    DataError,
    OutOfMemoryError,
    TrainingError,
    UnsupportedError,
)
from nasframe.registry import Component
from nasframe.trainers._among_ranks import check_ranks, told_of_ranks
from nasframe.trainers._calibration import own_statistics
from nasframe.trainers._compiling import compiles
from nasframe.trainers._ending import Ending
from nasframe.trainers._evaluation import means
from nasframe.trainers._optimizing import optimizer_steps
from nasframe.trainers._pieces import Pieces, first_line
from nasframe.trainers._placement import Placement
from nasframe.trainers._precision import check_precision, set_precision
from nasframe.trainers._state import SoFar, State
from nasframe.trainers._whole_steps import WholeSteps
from nasframe.types import Metrics, PositiveFloat, PositiveInt, ProperFraction

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
            so on an accelerator that is at least 1.5 times faster with it, as measured when a stage begins,
            unless an upper level, such as alphas, learns from the gradients.
        compile: Let PyTorch compile forward and backward passes, when each sort of them is first made. That
            takes from seconds to many minutes, and is paid again by whoever resumes. Sums may be added in
            another order, so that last bits differ from those of passes that are not compiled. `graphs` has
            the kernels of a pass replayed as a CUDA graph besides, which spares a launch of each. `auto` does
            neither, since nobody measured where it pays.
        channels_last: Keep images and convolution weights in the channels-last memory format. `auto` does so
            for images of 32 pixels and more on a CPU, and on CUDA in `bfloat16`.
        resident: Whether all examples are put on the device at the start, as they were read, so that a step
            copies none: batches are the same. `auto` does so on CUDA, where the host holds them anyway and
            they take a quarter of the free memory at most. Each of several ranks holds all of them.
        prefetch: Whether a thread reads each batch while a step computes the one before. `auto` does so on
            CUDA for examples that are not resident; batches are the same.
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
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        compile: bool | Literal["auto", "graphs"] = "auto",
        channels_last: bool | Literal["auto"] = "auto",
        resident: Literal["auto", "always", "never"] = "auto",
        prefetch: Literal["auto", "always", "never"] = "auto",
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
        self._epochs, self._max_steps = epochs, max_steps
        self._ending = Ending(epochs, patience, ends_with)
        self._optimizer, self._schedule, self._max_grad_norm = optimizer, schedule(), max_grad_norm
        self._weight_decay_on, self._ema_decay = weight_decay_on, ema_decay
        self._precision, self._compile, self._chunks = precision, compile, chunks
        if resident == "always" and on_unreadable == "skip":
            raise UnsupportedError(
                "standard: resident must be auto or never where examples that cannot be read are left out "
                "(on_unreadable: skip), got always, which reads all of them before; change one of them"
            )
        self._skips_unreadable = on_unreadable == "skip"
        self._placement = Placement(batch_size, resident, prefetch, channels_last, self._skips_unreadable)
        self._pieces = Pieces(batch_size, on_out_of_memory)
        self._eval_batch_size = eval_batch_size
        self._checkpoint_seconds = math.inf if checkpoint_minutes is None else 60 * checkpoint_minutes
        self._checkpoint_steps = math.inf if checkpoint_steps is None else checkpoint_steps
        self._keep_checkpoints, self._on_non_finite = keep_checkpoints, on_non_finite
        self._synchronized, self._check_steps = batch_norm == "synchronized", check_steps

    @property
    def uses_valid(self) -> bool:
        return self._ending.uses_valid

    def fit(self, job: Job) -> None:
        try:
            with ExitStack() as stack:
                if self._synchronized and num_ranks() > 1:
                    stack.enter_context(synchronized(job.model))
                if (found := compiles(self._compile, job.model, job.device).value) != "off":
                    stack.enter_context(compiled(job.model, graphs=found == "graphs"))
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
                f"not ({first_line(error)}); choose fewer channels, cells or layers in the space, or set "
                f"{self._pieces.smaller(job.stage)}"
            ) from error

    def _fit(self, job: Job) -> None:
        state = self._start(job)
        track = job.start_tracking(state.epoch + 1)
        while not self._ending.is_reached(state):
            self._train_epoch(job, state)
            if state.so_far.skipped == state.so_far.steps:
                raise TrainingError(
                    f"{job.stage}: some step of epoch {state.epoch + 1} must have finite numbers, but all "
                    f"{state.so_far.steps} were left out; lower the learning rate, or look at the data"
                )
            metrics = state.so_far.means()
            if self._on_non_finite != "stop":
                metrics["skipped_steps"] = float(state.so_far.skipped)
            if self._skips_unreadable:
                metrics["unreadable_examples"] = float(state.so_far.unreadable)
            if state.update.chunks > self._chunks:
                metrics["chunks"] = float(state.update.chunks)
            _check_finite(job, state.epoch + 1, metrics)
            try:
                metrics.update(self._validated(job, state))
                is_last = self._ending.is_last(state, metrics.get("valid_loss"))
                seen = self._seen_by_guard(job, state, metrics, is_last=is_last)
            except KeyboardInterrupt:  # whoever interrupts here loses no step of the epoch
                self._save(job, state)
                raise
            scalars = {f"{job.stage}/{name}": value for name, value in metrics.items()}
            with job.interrupts.deferred():
                state.epoch, state.so_far = state.epoch + 1, SoFar()
                state.note_loss(metrics.get("valid_loss"))
                track(job.describe(Record(state.epoch, {**scalars, **seen}, is_last=is_last)))
                if job.guard is not None and (earlier := job.guard.judge(state.epoch, state.copy_upper)):
                    state.put_back(earlier)
                self._save(job, state, metrics.get("valid_loss"))
                if on_any(job.interrupts.requested):
                    job.interrupts.request()
        self._ending.settle(job, state)

    def _seen_by_guard(
        self, job: Job, state: State, metrics: Mapping[str, float], *, is_last: bool
    ) -> Mapping[str, float]:
        return {} if job.guard is None else job.guard.measure(state.epoch + 1, metrics, is_last=is_last)

    def _save(self, job: Job, state: State, valid_loss: float | None = None) -> bool:
        return job.checkpoints.save(
            state.step, state.to_dict(), keep=self._keep_checkpoints, valid_loss=valid_loss
        )

    def _validated(self, job: Job, state: State) -> dict[str, float]:
        """Figures of the held-out examples."""
        if not len(job.valid):
            return {}
        averaged = nullcontext() if state.average is None else state.average.in_place()
        calibrated = own_statistics(
            job,
            self._eval_batch_size,
            self._placement.layout_of(job.model),
            skip_unreadable=self._skips_unreadable,
        )
        with averaged, calibrated:
            valid = self.evaluate(job.model, job.objective, job.valid, job.preprocess)
        return {f"valid_{name}": float(value) for name, value in valid.items()}

    def check(
        self, model: Model, objective: Objective, make_algorithm: Callable[[Model, Objective], Algorithm]
    ) -> None:
        if self._compile in (True, "graphs"):
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
            skip_unreadable=self._skips_unreadable,
            ahead=self._placement.is_read_ahead(device, everything=False).value == "on",
        )
        was_training = model.training
        if self._precision != "auto":  # which `fit` has settled; what it never saw stays in full precision
            model.autocast(torch.bfloat16 if self._precision == "bfloat16" else None)
        model.eval()
        try:
            with torch.no_grad():
                return means(model, objective, batches.epoch(0), self._placement.layout_of(model))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = batches.batch_size
            raise OutOfMemoryError(
                f"standard: a batch of {size} must fit the memory of {device} in validation and test, but "
                f"does not ({first_line(error)}); set eval_batch_size={size // 2 or 1} (now {size})"
            ) from error
        finally:
            model.train(was_training)

    def _start(self, job: Job) -> State:
        torch.manual_seed(seed_for(job.seed, job.stage, "train"))
        model, saved = job.model.to(job.device), job.checkpoints.latest()
        update, algorithm = self._learners(model, job.objective, job.make_algorithm)
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
        active = [
            set_precision(self._precision, model, job.device, algorithm, saved),
            compiles(self._compile, model, job.device),
            self._placement.lay_out(model, job),
            optimizer_steps(update.optimizer),
        ]
        splits = {"train": job.train, **({"valid": job.valid} if algorithm.uses_valid else {})}
        streams, of_streams = self._placement.streams(job, splits)
        job.active([*active, *of_streams])
        train, valid = streams[0], streams[1] if algorithm.uses_valid else None
        num_steps = min(self._epochs * len(train), self._max_steps or self._epochs * len(train))
        state = State(
            job.device, model, update.optimizer, algorithm, update, train, valid, num_steps, job.guard
        )
        if self._ema_decay is not None:
            state.average = WeightAverage(model, self._ema_decay)
        if saved is not None:
            state.load_dict(saved)
        elif self._on_non_finite == "rollback":
            self._save(job, state)
        if num_ranks() > 1:
            job.note(told_of_ranks(job.stage, train.batch_size, synchronized=self._synchronized))
            check_same(f"{job.stage}: step {state.step}", state.numbers())
        return state

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
        check_ranks(
            model,
            algorithm,
            batch_size=self._placement.batch_size,
            skips_unreadable=self._skips_unreadable,
        )
        algorithm.check_update(update)
        check_precision(self._precision, algorithm)
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

    def _train_epoch(self, job: Job, state: State) -> None:
        """The steps of an epoch that are still to come, each whole."""
        job.model.train()
        job.model.anneal(state.epoch / self._epochs)
        state.algorithm.begin_epoch(state.epoch, self._epochs)
        so_far, valid = state.so_far, state.valid_batches()
        laid_out = self._placement.layout_of(job.model)
        save = partial(self._save, job, state)
        is_graphed = self._compile == "graphs"
        step = WholeSteps(job, state, save, self._pieces, self._on_non_finite, is_graphed=is_graphed)
        batches = state.train.epoch(state.epoch, so_far.steps)
        with job.interrupts.deferred():
            started = saved = time.perf_counter()
            for train in islice(batches, state.num_steps - state.step):
                position = state.epoch + so_far.steps / len(state.train)
                set_learning_rate(state.optimizer, self._schedule, position, self._epochs)
                lr = state.optimizer.param_groups[0]["lr"]
                batch = laid_out(train)
                other = batch if valid is None else laid_out(next(valid))
                metrics = step(batch, other)
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
