"""Figures for TensorBoard."""

import errno
import time
from pathlib import Path
from typing import Final, final

import numpy as np

from nasframe.core import Graph, Record, Tracker, trackers
from nasframe.core.graph import draw, to_pixels
from nasframe.core.storage import check_room

_NEVER: Final = 10**7  # seconds: each record is flushed here


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

        self._folder = directory / "tensorboard"
        check_room(self._folder)
        _wait_for_a_new_name(self._folder)
        # also at the first step: a run may have been interrupted before its first checkpoint
        self._writer = SummaryWriter(self._folder, purge_step=start, flush_secs=_NEVER)
        self._file = max(self._folder.glob("events.out.tfevents.*"))
        self._pictures: dict[str, tuple[Graph, np.ndarray]] = {}

    def log(self, record: Record) -> None:
        check_room(self._folder)  # what fails in the writer's own thread prints a traceback
        if not self._file.exists():
            raise FileNotFoundError(errno.ENOENT, "its file was deleted", str(self._file))
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
    """Readers take event files in the order of their names, which begin with the second they are made in.

    Files from a second that is still to come, as after a clock was set back, get names of the past.
    """
    now = int(time.time())
    files = sorted(folder.glob("events.out.tfevents.*"))
    if any(_second(file) > now for file in files):
        for age, file in enumerate(reversed(files), 1):
            *start, _, end = file.name.split(".", 4)
            file.rename(file.with_name(f"{'.'.join(start)}.{now - age:010d}.{end}"))
    while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.05)


def _second(file: Path) -> int:
    number = file.name.split(".")[3]
    return int(number) if number.isdecimal() else 0
