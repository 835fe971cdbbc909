"""A retraining by several seeds: each by itself, the best by validation kept."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, final

from nasframe.core.json_text import read_json_file
from nasframe.core.storage import write_whole, written_whole
from nasframe.errors import FormatError
from nasframe.recipe.progression import Stretch
from nasframe.recipe.recipe import Recipe
from nasframe.types import Metrics

Retrained: TypeAlias = Callable[[Stretch, Path], Metrics]
"""Retrains by a seed, writes the weights to a path, and returns what the network is worth in validation."""

_FIGURES: Final = "metrics.jsonl"  # those of the kept training stand for the stage


@final
@dataclass(frozen=True)
class Repetition:
    """The trainings of a retraining by seeds S, S + 1, …, S that of the recipe.

    Each has a folder of its own below the stage's. One that is finished is not made again, so that a run that
    was interrupted goes on in the training that it was in.

    Attributes:
        recipe: Has several seeds.
        folder: Of the retraining.
    """

    recipe: Recipe
    folder: Path

    def run(self, retrained: Retrained, weights: Path) -> None:
        """Make all trainings, and let the one of the lowest validation loss stand for the stage.

        Args:
            retrained: Makes one.
            weights: Where those of the best are written.
        """
        for stretch in map(self.stretch_of, self.seeds):
            outcome, own_weights = self._outcome(stretch.seed), self.weights(stretch.seed)
            if not (outcome.exists() and own_weights.exists()):
                found = retrained(stretch, own_weights)
                valid = {f"valid_{name}": float(value) for name, value in found.items()}
                write_whole(outcome, json.dumps({"seed": stretch.seed, **valid}, indent=2) + "\n")
        kept = self.folder / _name(self.kept)
        if (kept / _FIGURES).exists():
            _copy(kept / _FIGURES, self.folder / _FIGURES)
        _copy(self.weights(self.kept), weights)

    def stretch_of(self, seed: int) -> Stretch:
        """The training by a seed."""
        folder, count = f"{self.folder.name}/{_name(seed)}", self.recipe.retrain.seeds
        index = self.seeds.index(seed) + 1
        return Stretch(folder, seed, label=f"{self.folder.name} {index}/{count}", records=folder)

    @property
    def seeds(self) -> Sequence[int]:
        return range(self.recipe.seed, self.recipe.seed + self.recipe.retrain.seeds)

    @property
    def kept(self) -> int:
        """The seed with the lowest validation loss, the first of equal ones."""
        return min(self.seeds, key=lambda seed: self.outcome(seed)["valid_loss"])

    def weights(self, seed: int) -> Path:
        """The weights that a training ended with."""
        return self.folder / _name(seed) / "model.safetensors"

    def outcome(self, seed: int) -> dict[str, float]:
        """The seed of a training, and its figures in validation.

        Raises:
            FormatError: The file says something else.
        """
        path = self._outcome(seed)
        found = read_json_file(path)
        if not isinstance(found, dict) or not isinstance(found.get("valid_loss"), float):
            raise FormatError(f"{path}: must be the figures of a training; remove it, and resume")
        return found

    def _outcome(self, seed: int) -> Path:
        return self.folder / _name(seed) / "outcome.json"


def _copy(source: Path, target: Path) -> None:
    with written_whole(target) as file:
        file.write(source.read_bytes())


def _name(seed: int) -> str:
    return f"seed_{seed}"


def spread(rows: Sequence[Mapping[str, float]], prefix: str) -> dict[str, float]:
    """Mean and sample standard deviation of some figures, as ``<figure>_mean`` and ``<figure>_std``.

    Args:
        rows: One of each training; none for no figures.
        prefix: Of the names of the figures.
    """
    names = [name for name in (rows[0] if rows else ()) if name.startswith(prefix)]
    columns = {name: [row[name] for row in rows] for name in names}
    return {
        f"{name}_{which}": figure(values)
        for name, values in columns.items()
        for which, figure in (("mean", statistics.fmean), ("std", statistics.stdev))
    }
