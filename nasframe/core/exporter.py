"""Exporters: a derived network in a format of its own."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from nasframe.core.model import Model
from nasframe.registry import Registry


class Exporter(ABC):
    """Writes a derived network as a file that stands alone.

    Attributes:
        max_difference: By how much an output of the last file differed from the network's at most; None
            where the two were not compared.
    """

    max_difference: float | None = None

    @abstractmethod
    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        """Write `model`, check the file against it on `example` (normalized inputs), return its path."""


@final
@dataclass(frozen=True)
class Exported(os.PathLike[str]):
    """A file that an exporter wrote; may be given wherever a path may.

    Attributes:
        path: Of the file.
        max_difference: By how much one of its outputs differs from the network's at most, on the examples
            that it was checked with; None where the two were not compared.
        num_examples: How many these were.
    """

    path: Path
    max_difference: float | None
    num_examples: int

    def __fspath__(self) -> str:
        return str(self.path)


exporters: Registry[Exporter] = Registry("exporters", Exporter)
