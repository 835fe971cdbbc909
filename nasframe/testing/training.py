"""Optimizers, schedules and trainers."""

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from torch import nn

from nasframe.core import (
    Algorithm,
    AsGiven,
    Batch,
    Checkpoints,
    Job,
    Model,
    Objective,
    Progress,
    Record,
    Schedule,
    Trainer,
    WeightUpdate,
    objectives,
    supernet,
)
from nasframe.testing._example import example_space, example_split
from nasframe.testing._verdict import require, same, seeded, state_of, through_a_checkpoint
from nasframe.types import Metrics


def check_optimizer(factory: Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]) -> None:
    """Check an optimizer: it goes downhill, and its state round-trips.

    Args:
        factory: Builds the optimizer of parameters.

    Raises:
        ComponentError: What must be changed.
    """

    def start(values: torch.Tensor) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(values.clone())
        return weight, factory([weight])

    def descend(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward(weight.square().sum())
            optimizer.step()

    first, optimizer = start(torch.tensor([1.0, -2.0]))
    where = type(optimizer).__name__
    descend(first, optimizer)
    require(
        float(first.detach().square().sum()) < 5,
        f"{where}: must go downhill on w², from |w|² = 5; check the sign and the learning rate",
    )
    second, other = start(first.detach())
    other.load_state_dict(through_a_checkpoint(optimizer.state_dict()))
    descend(first, optimizer)
    descend(second, other)
    require(
        torch.equal(first, second),
        f"{where}: must go on after `load_state_dict` as if it had not stopped; "
        "keep what changes in its state",
    )


def check_schedule(factory: Callable[[], Schedule], *, num_epochs: int = 10) -> None:
    """Check a schedule: a non-negative function of the time alone.

    Args:
        factory: Builds the schedule.
        num_epochs: Epochs in all.

    Raises:
        ComponentError: What must be changed.
    """
    schedule = factory()
    where = type(schedule).__name__
    moments = [step / 4 for step in range(4 * num_epochs + 1)]
    rates = [schedule(0.1, moment, num_epochs) for moment in moments]
    require(
        all(math.isfinite(rate) and rate >= 0 for rate in rates),
        f"{where}: learning rates must be finite and not negative, got {rates}; clamp them",
    )
    backwards = [schedule(0.1, moment, num_epochs) for moment in reversed(moments)]
    require(
        rates == backwards[::-1],
        f"{where}: must depend on its arguments alone, so that a resumed run reads the same rates; "
        "keep no state",
    )


def check_trainer(factory: Callable[[], Trainer], folder: Path) -> None:
    """Check a trainer: what moves, what is recorded, and a run that is interrupted ends the same.

    Args:
        factory: Builds a trainer of at least 2 epochs, with batches of at most 8.
        folder: Empty; for checkpoints.

    Raises:
        ComponentError: What must be changed.
    """
    whole, where = _Training(folder / "whole"), type(factory()).__name__
    factory().fit(whole.job)
    require(
        len(whole.records) >= 2,
        f"{where}: must track a record each epoch, and have 2 epochs or more; "
        "call what `job.start_tracking` returns",
    )
    require(
        f"{whole.job.stage}/train_loss" in whole.records[0].scalars,
        f"{where}: records must hold `<stage>/train_loss`, got {sorted(whole.records[0].scalars)}; "
        "add what the steps return, as means",
    )
    require(
        all(record.scalars[f"{whole.job.stage}/sometimes"] == 1.0 for record in whole.records),
        f"{where}: records must hold each metric of the steps, as the mean over those steps that return it; "
        "count the steps of each metric",
    )
    broken = _Training(folder / "broken")
    last_epoch = max(epoch for _, epoch in whole.heard)
    at = next(step for step, epoch in whole.heard if epoch == last_epoch)
    with contextlib.suppress(_InterruptedError):
        factory().fit(replace(broken.job, progress=broken.interrupt_at(at)))
    resumed = _Training(folder / "broken")
    factory().fit(resumed.job)
    require(
        same(state_of(whole.job.model), state_of(resumed.job.model)),
        f"{where}: an interrupted and resumed training must end with the same parameters, bit by bit; "
        "save model, optimizer, algorithm and random state, and make batches depend on the epoch",
    )
    require(
        [record.step for record in broken.records + resumed.records]
        == [record.step for record in whole.records],
        f"{where}: records must be tracked once each, also over an interruption; "
        "save the epoch with the checkpoint",
    )
    _check_evaluate(where, factory(), whole.job)


class _InterruptedError(Exception):
    """Ends a training from within."""


@final
class _Training:
    """A job on a tiny supernet, and what was heard of it."""

    def __init__(self, folder: Path) -> None:
        self.records: list[Record] = []
        self.heard: list[tuple[int, int]] = []
        model = seeded(1, supernet, example_space())
        self.job = Job(
            stage="search",
            seed=7,
            device=torch.device("cpu"),
            model=model,
            objective=objectives["cross_entropy"](),
            make_algorithm=_Alternate,
            train=example_split(0, 19),
            valid=example_split(1, 11),
            preprocess=AsGiven(),
            augment=(),
            describe=lambda record: record,
            start_tracking=lambda start: self.records.append,
            checkpoints=Checkpoints(folder),
            progress=self._note,
        )

    def _note(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        self.heard.append((step, epoch))

    def interrupt_at(self, at: int) -> Progress:
        def progress(stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
            if step == at:
                raise _InterruptedError

        return progress


@final
class _Alternate(Algorithm):
    """First-order steps of the upper level by Adam, whose averages a resume must restore.

    Every other step returns the metric ``sometimes``, which is 1.
    """

    def __init__(self, model: Model, objective: Objective) -> None:
        self._model, self._objective, self._steps = model, objective, 0
        self._optimizer = torch.optim.Adam(model.parameters_at("upper"))

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        loss = self._objective.loss(self._model(valid.inputs), valid.targets)
        alphas = list(self._model.parameters_at("upper"))
        for alpha, gradient in zip(alphas, torch.autograd.grad(loss, alphas), strict=True):
            alpha.grad = gradient
        self._optimizer.step()
        self._steps += 1
        sometimes = {"sometimes": 1.0} if self._steps % 2 else {}
        return {**update_weights(train), **sometimes}


def _check_evaluate(where: str, trainer: Trainer, job: Job) -> None:
    model = job.model.train()
    before = state_of(model)
    got = trainer.evaluate(model, job.objective, job.valid, job.preprocess)
    require(
        model.training and same(before, state_of(model)),
        f"{where}: evaluate must leave the model as it was, its mode too; call `model.train(was_training)`",
    )
    batch = job.valid.batch(torch.arange(len(job.valid)))
    with torch.no_grad():
        want = float(job.objective.loss(model.eval()(batch.inputs), batch.targets))
    require(
        math.isclose(float(got["loss"]), want, rel_tol=1e-4),
        f"{where}: evaluate must return the mean loss over all examples, {want:.6g}, got {got['loss']}; "
        "weigh batches by their sizes, and use evaluation mode",
    )
