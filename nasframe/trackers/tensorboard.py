"""Figures for TensorBoard."""

import time
from pathlib import Path
from typing import final

import numpy as np

from nasframe.core import Graph, Record, Tracker, trackers
from nasframe.core.graph import draw, to_pixels


@trackers.register("tensorboard")
@final
class TensorBoard(Tracker):
    """Writes event files below ``tensorboard``: scalars, histograms, and graphs as images.

    What an interrupted run wrote from `start` on is marked as purged, so that readers of event files
    see one run. Histograms are of the finite values.
    """

    def __init__(self, directory: Path, start: int) -> None:
        # importing it takes a second, which only those who use it shall wait
        from torch.utils.tensorboard import SummaryWriter

        _wait_for_a_new_name(directory / "tensorboard")
        # also at the first step: a run may have been interrupted before its first checkpoint
        self._writer = SummaryWriter(directory / "tensorboard", purge_step=start)
        self._pictures: dict[str, tuple[Graph, np.ndarray]] = {}

    def log(self, record: Record) -> None:
        for tag, value in record.scalars.items():
            self._writer.add_scalar(tag, float(value), record.step)
        for tag, values in record.histograms.items():
            finite = values.detach().float().cpu()
            finite = finite[finite.isfinite()]
            if len(finite):
                self._writer.add_histogram(tag, finite, record.step)
        for tag, graph in record.graphs.items():
            self._writer.add_image(tag, self._picture(tag, graph), record.step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _picture(self, tag: str, graph: Graph) -> np.ndarray:
        """A graph's pixels, drawn anew if it is another than the tag had last."""
        if tag not in self._pictures or self._pictures[tag][0] != graph:
            self._pictures[tag] = graph, to_pixels(draw(graph))
        return self._pictures[tag][1]


def _wait_for_a_new_name(folder: Path) -> None:
    """Readers take event files in the order of their names, which begin with the second they are made in."""
    while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.05)
