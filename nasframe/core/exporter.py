"""Exporters: a derived network in a format of its own."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import torch

from nasframe.core.dataset import Dataset
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.prediction import Predictor
from nasframe.registry import Registry


@final
@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as its exporters see it.

    Attributes:
        model: The retrained network, in evaluation mode on the CPU.
        example: Some normalized inputs.
        data: What it learned from, and its test examples.
        objective: That of the retraining.
        describe: Tells the plain data that `nasframe.load` builds the network from; raises an
            `UnsupportedError` where it takes more than that.
        load: Builds it from a folder of ``config.json``, which holds that, and ``model.safetensors``.
        recipe: The complete recipe, as plain data.
        report: What ``report.json`` says.
        predicted_latency_ms: What the search took the network's latency for; None where it had no such cost.
    """

    model: Model
    example: torch.Tensor
    data: Dataset
    objective: Objective
    describe: Callable[[], Mapping[str, Any]]
    load: Callable[[Path], Predictor]
    recipe: Mapping[str, Any]
    report: Mapping[str, Any]
    predicted_latency_ms: float | None = None


@final
@dataclass(frozen=True)
class Exported(os.PathLike[str]):
    """A file that an exporter wrote; may be given wherever a path may.

    Attributes:
        path: Of the file.
        max_difference: By how much one of its outputs differs from the network's at most, on the examples
            that it was checked with; None where the two were not compared.
        num_examples: How many these were.
        figures: What else was measured, by what it was measured of and then by name.
    """

    path: Path
    max_difference: float | None
    num_examples: int
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __fspath__(self) -> str:
        return str(self.path)


class Exporter(ABC):
    """Writes a derived network as a file that stands alone.

    Attributes:
        max_difference: By how much an output of the last file differed from the network's at most; None
            where the two were not compared.
        needs_run: Whether a network alone is not enough, so that `export` refuses it.
    """

    max_difference: float | None = None
    needs_run: ClassVar[bool] = False

    @abstractmethod
    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        """Write `model`, check the file against it on `example` (normalized inputs), return its path."""

    def export_run(self, run: FinishedRun, folder: Path) -> Exported:
        """Write the network of a finished run; a format that tells more than the network overrides it."""
        path = self.export(run.model, run.example, folder)
        return Exported(path, self.max_difference, len(run.example))


exporters: Registry[Exporter] = Registry("exporters", Exporter)
