"""Trackers: where the figures of a stage go."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from nasframe.core.graph import Graph
from nasframe.core.heat_map import HeatMap
from nasframe.registry import Registry


@dataclass(frozen=True)
class Record:
    """The figures of one moment.

    Attributes:
        step: The epoch, counted from 1, after which they were taken.
        scalars: By tag, such as ``search/train_loss``.
        histograms: By tag. Scalars whose tags begin with a histogram's, and have one name more, are its
            values by name.
        graphs: Pictures by tag, such as ``genotype/normal``.
        heat_maps: Likewise, such as ``confusion/valid``.
        images: Likewise, such as ``search/inputs``: floats from 0 to 1, of shape B C H W, C 1 or 3.
        texts: Markdown by tag.
        is_last: Whether the stage has come to its planned end.
    """

    step: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, torch.Tensor] = field(default_factory=dict)
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    heat_maps: Mapping[str, HeatMap] = field(default_factory=dict)
    images: Mapping[str, torch.Tensor] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False


@dataclass(frozen=True)
class Conclusion:
    """What a run came to, by which it compares with others.

    Attributes:
        settings: What was set, by its path in the recipe, such as ``search.trainer.epochs``.
        figures: What was found, by name, such as ``test_accuracy``.
        heat_maps: Pictures by tag, such as ``confusion/test``.
        verdict: On the search's health, in a sentence; empty where there is none.
    """

    settings: Mapping[str, bool | float | str]
    figures: Mapping[str, float]
    heat_maps: Mapping[str, HeatMap] = field(default_factory=dict)
    verdict: str = ""


class Tracker(ABC):
    """Writes records below ``directory``.

    A tracker is made with `directory` and `start`, the first step that is still to come: what an
    interrupted run wrote from that step on is dropped, so that a resumed run reads as one.
    """

    @abstractmethod
    def log(self, record: Record) -> None:
        """Write one record; it can be read by others when this returns."""

    def conclude(self, conclusion: Conclusion) -> None:
        """Write what the run came to; called on the trackers of the last stage, after its last record."""

    @abstractmethod
    def close(self) -> None:
        """Finish writing."""


trackers: Registry[Tracker] = Registry("trackers", Tracker, given=("directory", "start"))
