"""Trainers: each owns the loop of a stage, and knows no paper."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch

from nasframe.core.active import ActiveSetting
from nasframe.core.algorithm import Algorithm
from nasframe.core.augmentation import Augmentation
from nasframe.core.checkpoint import Checkpoints
from nasframe.core.dataset import Preprocess, Split
from nasframe.core.guard import Guard
from nasframe.core.interrupts import Interrupts
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.tracker import Record
from nasframe.registry import Registry
from nasframe.types import Metrics


class Progress(Protocol):
    """Hears how far a stage is."""

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None: ...


def _nobody_reads(told: object) -> None:
    """There is no report."""


@dataclass(frozen=True)
class Job:
    """What a stage gives its trainer.

    Attributes:
        stage: ``search`` or ``retrain``; tags and seeds begin with it.
        seed: The run's seed.
        device: Where the model is, and batches go.
        model: Trained in place.
        objective: Loss and metrics.
        make_algorithm: Builds the algorithm of the steps.
        train: Examples for weights.
        valid: Examples held out, for alphas and for validation; may be empty.
        preprocess: From raw inputs to network inputs.
        augment: Augmentations of `train`.
        describe: Adds to the record of an epoch what the trainer cannot know (alphas, genotype).
        start_tracking: Opens the trackers at the first step that is still to come, and returns
            where records go.
        checkpoints: Where states are saved and looked for.
        progress: Hears each step.
        note: Hears what a reader of the result must know, in a sentence; one that is said twice counts once.
        active: Hears before the first step what the settings came to that depend on the device.
        interrupts: Asks to save a checkpoint and to stop; a step is `deferred`, so that it is whole.
        guard: Looks at the model after each epoch, where the trainer `heeds_guard`.
        label: What people are told of the training where a stage has several, such as ``retrain 2/3``.
        num_outputs: What the task says; how many classes there are where targets are labels.
    """

    stage: str
    seed: int
    device: torch.device
    model: Model
    objective: Objective
    make_algorithm: Callable[[Model, Objective], Algorithm]
    train: Split
    valid: Split
    preprocess: Preprocess
    augment: Sequence[Augmentation]
    describe: Callable[[Record], Record]
    start_tracking: Callable[[int], Callable[[Record], None]]
    checkpoints: Checkpoints
    progress: Progress
    note: Callable[[str], None] = _nobody_reads
    active: Callable[[Sequence[ActiveSetting]], None] = _nobody_reads
    interrupts: Interrupts = field(default_factory=Interrupts)
    guard: Guard | None = None
    label: str | None = None
    num_outputs: int | None = None


class Trainer(ABC):
    """The loop of a stage: batches, steps, validation, records, checkpoints.

    Attributes:
        heeds_guard: Whether it lets a job's guard measure and judge after each epoch, does what that wants,
            and saves its state.
        knows_ranks: Whether it may run on several ranks: each takes its share of a batch. It is refused there
            otherwise.
    """

    heeds_guard: ClassVar[bool] = False
    knows_ranks: ClassVar[bool] = False

    @property
    def uses_valid(self) -> bool:
        """Whether it decides by held-out examples, such as when to stop, and so needs some."""
        return False

    @abstractmethod
    def fit(self, job: Job) -> None:
        """Train `job.model` to the end, from the newest checkpoint if there is one."""

    def check(
        self, model: Model, objective: Objective, make_algorithm: Callable[[Model, Objective], Algorithm]
    ) -> None:
        """Refuse what `fit` would refuse before its first step, without computing anything.

        Args:
            model: May be on the meta device.
            objective: Loss and metrics.
            make_algorithm: Builds the algorithm of the steps.

        Raises:
            UnsupportedError: These parts do not work together; says what to choose instead.
        """
        make_algorithm(model, objective)

    @abstractmethod
    def evaluate(self, model: Model, objective: Objective, split: Split, preprocess: Preprocess) -> Metrics:
        """``loss`` and metrics of a model in evaluation mode, means over all examples of a split.

        Of several ranks all must call it, each for its share; they get the same.
        """


trainers: Registry[Trainer] = Registry("trainers", Trainer)
