"""How a stage trains a network: with its records, its checkpoints, and who hears of each step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch

from nasframe.core import Guard, Job, Model, Objective, Progress, Record
from nasframe.recipe.progression import Stretch
from nasframe.recipe.recipe import Retrain, Search
from nasframe.recipe.sample_inputs import sample_inputs
from nasframe.recipe.stages.trackers import Trackers
from nasframe.recipe.stages.workshop import Workshop
from nasframe.types import Metrics


@final
@dataclass(frozen=True)
class Fitting:
    """Trains the networks of a run.

    Attributes:
        workshop: Of the run.
        trackers: Of the run.
        hear: Hears each step.
    """

    workshop: Workshop
    trackers: Trackers
    hear: Progress

    def fit(
        self,
        stage: str,
        section: Search | Retrain,
        model: Model,
        objective: Objective,
        make_algorithm: Callable[[Model, Objective], Any],
        describe: Callable[[Record], Record],
        guard: Guard | None = None,
        stretch: Stretch | None = None,
    ) -> int:
        """Train a model; returns the step of the last record.

        Args:
            stage: `search` or `retrain`.
            section: That of the stage.
            model: Trained in place.
            objective: Loss and metrics.
            make_algorithm: Builds what takes a step.
            describe: Adds to each record.
            guard: Looks at the model after each epoch.
            stretch: By default the whole stage, by the run's seed.
        """
        shop, recipe, data = self.workshop, self.workshop.recipe, self.workshop.data
        stretch = stretch or Stretch(stage, recipe.seed, stage)
        seed, label, before = stretch.seed, stretch.label, stretch.before
        train, valid = shop.examples(section.valid_fraction)
        augment = [component() for component in section.augment]
        last = before

        def seen() -> dict[str, torch.Tensor]:
            return sample_inputs(stage, data, train, augment, seed, shop.device)

        def hear(stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
            self.hear(label, step, num_steps, epoch, metrics)

        with self.trackers.opening(stretch.records or stage, seen) as open_trackers:

            def start_tracking(start: int) -> Callable[[Record], None]:
                nonlocal last
                last = before + start - 1
                log = open_trackers(before + start)

                def track(record: Record) -> None:
                    nonlocal last
                    last = before + record.step
                    log(replace(record, step=last))

                return track

            shop.fit(
                section.trainer(),
                Job(
                    stage=stage,
                    seed=seed,
                    device=shop.device,
                    model=model,
                    objective=objective,
                    make_algorithm=make_algorithm,
                    train=train,
                    valid=valid,
                    preprocess=data.preprocess,
                    augment=augment,
                    describe=describe,
                    start_tracking=start_tracking,
                    checkpoints=shop.directory.checkpoints(stretch.folder),
                    progress=hear,
                    note=shop.directory.note,
                    active=partial(shop.directory.keep_active, stage),
                    interrupts=shop.interrupts,
                    guard=guard,
                    label=label,
                    num_outputs=data.task.num_outputs,
                ),
            )
        return last
