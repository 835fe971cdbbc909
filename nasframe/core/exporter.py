"""Exporters: a derived network in a format of its own."""

from abc import ABC, abstractmethod
from pathlib import Path

import torch

from nasframe.core.model import Model
from nasframe.registry import Registry


class Exporter(ABC):
    """Writes a derived network as a file that stands alone."""

    @abstractmethod
    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        """Write `model`, check the file against it on `example` (normalized inputs), return its path."""


exporters: Registry[Exporter] = Registry("exporters", Exporter)
