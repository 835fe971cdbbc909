"""Trackers: where the figures of a stage go."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from nasframe.core.graph import Graph
from nasframe.registry import Registry


@dataclass(frozen=True)
class Record:
    """The figures of one moment.

    Attributes:
        step: The epoch, counted from 1, after which they were taken.
        scalars: By tag, such as ``search/train_loss``.
        histograms: By tag.
        graphs: Pictures by tag, such as ``genotype/normal``.
    """

    step: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, torch.Tensor] = field(default_factory=dict)
    graphs: Mapping[str, Graph] = field(default_factory=dict)


class Tracker(ABC):
    """Writes records below ``directory``.

    A tracker is made with `directory` and `start`, the first step that is still to come: what an
    interrupted run wrote from that step on is dropped, so that a resumed run reads as one.
    """

    @abstractmethod
    def log(self, record: Record) -> None:
        """Write one record; it can be read by others when this returns."""

    @abstractmethod
    def close(self) -> None:
        """Finish writing."""


trackers: Registry[Tracker] = Registry("trackers", Tracker, given=("directory", "start"))
