"""Figures for TensorBoard."""

import errno
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from nasframe.core import Conclusion, Graph, HeatMap, Record, Tracker, draw, trackers
from nasframe.core.graph import to_pixels
from nasframe.core.heat_map import paint
from nasframe.core.storage import check_room
from nasframe.trackers._board import History, charts_of, side_by_side
from nasframe.types import PositiveInt

_NEVER: Final = 10**7  # seconds: each record is flushed here


@trackers.register("tensorboard")
@final
class TensorBoard(Tracker):
    """Writes event files below ``tensorboard``: scalars, histograms, pictures, texts, and what a run came to.

    Where scalars are a histogram's values by name, such as the weights of a choice's candidates, a heat map
    ``heat_maps/<choice>`` shows them over the steps. Custom scalars have a chart for what belongs together,
    hparams the recipe's settings with the final figures. What an interrupted run wrote from `start` on is
    marked as purged, so that readers of event files see one run. Histograms are of the finite values.

    Args:
        pictures_every: Pictures are drawn at the first step, whenever so many are done, and at the end.
    """

    def __init__(self, directory: Path, start: int, *, pictures_every: PositiveInt = 5) -> None:
        # importing it takes a second, which only those who use it shall wait
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._start, self._every = directory / "tensorboard", start, pictures_every
        check_room(self._folder)
        # beside the folder of a stage, or of one of its seeds
        is_searched = any((parent / "search/tensorboard").is_dir() for parent in directory.parents[:2])
        self._reserved = ("search",) if is_searched else ()
        self._history = History.before(start, self._folder)
        self._charted = frozenset(self._history)
        _wait_for_a_new_name(self._folder)
        # also at the first step: a run may have been interrupted before its first checkpoint
        self._writer = SummaryWriter(self._folder, purge_step=start, flush_secs=_NEVER)
        self._file = max(self._folder.glob("events.out.tfevents.*"))
        self._pixels: dict[str, tuple[Graph, np.ndarray]] = {}
        self._waiting: dict[str, Callable[[], np.ndarray]] = {}
        self._last = start - 1

    def log(self, record: Record) -> None:
        self._check_file()
        self._last = record.step
        for tag, value in record.scalars.items():
            self._writer.add_scalar(tag, float(value), record.step)
        for tag, values in record.histograms.items():
            finite = values.detach().float().cpu()
            finite = finite[finite.isfinite()]
            if len(finite):
                self._writer.add_histogram(tag, finite, record.step)
        for tag, text in record.texts.items():
            self._writer.add_text(tag, text, record.step)
        for tag, images in record.images.items():
            self._add_picture(tag, side_by_side(images), record.step)
        self._history.add(record.step, record.scalars)
        self._wait_to_draw(record)
        if record.step == 1 or record.step % self._every == 0 or record.is_last:
            self._draw_waiting()
        self._lay_out(record.step)
        self._writer.flush()

    def conclude(self, conclusion: Conclusion) -> None:
        from torch.utils.tensorboard.summary import hparams

        self._check_file()
        step = self._last + 1
        figures = {f"result/{name}": float(value) for name, value in conclusion.figures.items()}
        for tag, value in figures.items():
            self._writer.add_scalar(tag, value, step)
        for tag, heat_map in conclusion.heat_maps.items():
            self._add_picture(tag, paint(heat_map), step)
        if conclusion.verdict:
            self._writer.add_text("verdict", conclusion.verdict, step)
        settings = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in conclusion.settings.items()
        }
        # without torch's list of columns, which would have TensorBoard show those of one run alone
        _, begun, ended = hparams(settings, figures)  # type: ignore[no-untyped-call]
        for summary in (begun, ended):
            self._add_summary(summary, step)
        self._history.add(step, figures)
        self._lay_out(step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _check_file(self) -> None:
        check_room(self._folder)  # what fails in the writer's own thread prints a traceback
        if not self._file.exists():
            raise FileNotFoundError(errno.ENOENT, "its file was deleted", str(self._file))

    def _wait_to_draw(self, record: Record) -> None:
        """Have the newest pictures drawn when it is time."""
        for tag, graph in record.graphs.items():
            self._waiting[tag] = partial(self._drawn, tag, graph)
        for tag, heat_map in record.heat_maps.items():
            self._waiting[tag] = partial(paint, heat_map)
        named: dict[str, list[str]] = {tag: [] for tag in record.histograms}
        for tag in record.scalars:
            if (whole := tag.rpartition("/")[0]) in named:
                named[whole].append(tag)
        for whole, tags in named.items():
            if tags:
                name = whole.partition("/")[2] or whole
                self._waiting[f"heat_maps/{name}"] = partial(self._over_time, whole, tags)

    def _draw_waiting(self) -> None:
        for tag, make in self._waiting.items():
            self._add_picture(tag, make(), self._last)
        self._waiting.clear()

    def _add_picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Write pixels (uint8, H W 3); the writer's own method would take twice as long to pack them."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        packed = io.BytesIO()
        Image.fromarray(pixels).save(packed, "png", compress_level=1)
        height, width, colors = pixels.shape
        image = Summary.Image(
            height=height, width=width, colorspace=colors, encoded_image_string=packed.getvalue()
        )
        self._add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def _add_summary(self, summary: Any, step: int) -> None:
        events: Any = self._writer.file_writer  # which the writer's own annotation says is None
        events.add_summary(summary, step)

    def _drawn(self, tag: str, graph: Graph) -> np.ndarray:
        """A graph's pixels, drawn anew if it is another than the tag had last."""
        if tag not in self._pixels or self._pixels[tag][0] != graph:
            self._pixels[tag] = graph, to_pixels(draw(graph))
        return self._pixels[tag][1]

    def _over_time(self, title: str, tags: Sequence[str]) -> np.ndarray:
        steps, values = self._history.table(tags)
        highest = max(2 / len(tags), float(np.nanmax(values))) if np.isfinite(values).any() else 1.0
        names = [tag.rpartition("/")[2] for tag in tags]
        title = f"{title}, up to {highest:.2g}"
        return paint(HeatMap(title, names, list(map(str, steps)), values, highest=highest))

    def _lay_out(self, step: int) -> None:
        """Say which scalars belong into one chart, if there are others than before."""
        from torch.utils.tensorboard import summary

        if self._charted != self._history.keys():
            self._charted = frozenset(self._history)
            charts = charts_of(self._charted, self._reserved)
            self._add_summary(summary.custom_scalars(charts), step)  # type: ignore[no-untyped-call]


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
