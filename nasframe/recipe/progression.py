"""A search in stages: each trains a supernet of its own, of the candidates that the one before left."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, final

import torch

from nasframe.core import (
    Checkpoints,
    Model,
    Pruned,
    Space,
    Task,
    finite_weights,
    seed_for,
    strongest,
    supernet,
    take_alphas,
    take_weights,
)
from nasframe.recipe.recipe import Recipe, Search, SearchStage


@final
@dataclass(frozen=True)
class Stretch:
    """Where in its run a network is trained.

    Attributes:
        folder: Of its checkpoints, below the run directory.
        seed: What its randomness follows from.
        label: What people are told of it, such as ``search 2/3``.
        before: How many records there are before its first.
        figures: What each of its records says besides.
        records: Folder of its records, below the run directory, where that is not its stage's.
    """

    folder: str
    seed: int
    label: str
    before: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    records: str | None = None


Train: TypeAlias = Callable[[Space, Model, Search, Stretch], int]
"""Trains the supernet of a space by a section's trainer; returns how many records there are then."""


@final
@dataclass(frozen=True)
class Progression:
    """The stages of a search.

    A stage that is finished leaves what the next one begins with, so that a run that was interrupted goes on
    in the stage that it was in.

    Attributes:
        recipe: Has stages.
        task: What networks are for.
        folder: A folder of the run directory, by its name.
    """

    recipe: Recipe
    task: Task
    folder: Callable[[str], Path]

    def run(self, train: Train) -> Model:
        """Go through all stages; returns the supernet of the last one."""
        search, stages = self.recipe.search, self.recipe.search.stages
        kept: dict[str, tuple[str, ...]] = {}
        former: Model | None = None
        records = 0
        for index, stage in enumerate(stages):
            stretch = self._stretch(index, records)
            space = Pruned(stage.space(self.task), kept)
            model = self._supernet(space, stage, stretch, former)
            former = None  # its memory is free now
            following = stages[index + 1] if index + 1 < len(stages) else None
            outcome = Checkpoints(self.folder(stretch.folder) / "outcome")
            found = None if following is None else outcome.latest()
            if found is None:
                self._forget(index + 1)
                records = train(space, model, replace(search, trainer=stage.trainer), stretch)
                if following is not None:
                    kept = _left(model, kept, following)
                    state = model.state_dict() if following.inherits else None
                    left = {name: list(each) for name, each in kept.items()}
                    outcome.save(records, {"records": records, "kept": left, "model": state})
            else:
                records, kept = found["records"], {name: tuple(each) for name, each in found["kept"].items()}
                if found["model"] is not None:
                    model.load_state_dict(found["model"])
            former = model
        assert former is not None
        return former

    def _stretch(self, index: int, records: int) -> Stretch:
        seed = self.recipe.seed
        return Stretch(
            folder=_folder(index),
            seed=seed_for(seed, "search", "stage", index) if index else seed,
            label=f"search {index + 1}/{len(self.recipe.search.stages)}",
            before=records,
            figures={"stage": float(index + 1)},
        )

    def _forget(self, index: int) -> None:
        """Begin anew with a stage, and those after it, where what they began with could not be kept."""
        for later in range(index, len(self.recipe.search.stages)):
            shutil.rmtree(self.folder("search") / Path(_folder(later)).name, ignore_errors=True)

    def _supernet(self, space: Space, stage: SearchStage, stretch: Stretch, former: Model | None) -> Model:
        search = self.recipe.search
        torch.manual_seed(seed_for(stretch.seed, "search", "init"))
        model = supernet(space, search.mixed_op, fused=search.fused, recomputed=search.recomputed)
        if former is not None and "weights" in stage.inherits:
            take_weights(model, former)
        if former is not None and "alphas" in stage.inherits:
            take_alphas(model, former)
        return model


def _folder(index: int) -> str:
    return f"search/stage_{index + 1}"


def _left(
    model: Model, kept: Mapping[str, tuple[str, ...]], following: SearchStage
) -> dict[str, tuple[str, ...]]:
    """The candidates that the next stage has."""
    if following.keep is None:
        return dict(kept)
    return strongest(model.choices, finite_weights(model, "stages"), following.keep)
