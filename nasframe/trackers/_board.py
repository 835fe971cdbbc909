"""What a TensorBoard shows besides single values: which belong together, how they went, images in rows."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
import torch

_SPLITS: Final = re.compile(r"^(?:train|valid|test)_")
_FIRST: Final = ("loss", "accuracy", "entropy")  # charts that come before others
_ORDER: Final = ("search", "retrain", "result", "alphas", "health")
_COLUMNS: Final = 8
_SMALLEST: Final = 64  # pixels of an image's height

Layout: TypeAlias = dict[str, dict[str, list[object]]]


@final
class History(dict[str, dict[int, float]]):
    """The values of scalars by tag and step."""

    @classmethod
    def before(cls, start: int, folder: Path) -> "History":
        """What event files say of the steps before one; what was purged is not there."""
        history = cls()
        if start > 1 and any(folder.glob("events.out.tfevents.*")):
            from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

            events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
            events.Reload()
            for tag in events.Tags()[SCALARS]:
                if kept := {each.step: each.value for each in events.Scalars(tag) if each.step < start}:
                    history[tag] = kept
        return history

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Note the values of a step."""
        for tag, value in scalars.items():
            self.setdefault(tag, {})[step] = float(value)

    def table(self, tags: Sequence[str]) -> tuple[list[int], np.ndarray]:
        """The steps at which some tags have values, and these, of shape (tags, steps)."""
        steps = sorted(set().union(*(self[tag] for tag in tags)))
        return steps, np.array([[self[tag].get(step, np.nan) for step in steps] for tag in tags])


def charts_of(tags: Iterable[str], reserved: Sequence[str] = ()) -> Layout:
    """Which tags share a chart, by the titles of category and chart.

    ``search/train_loss`` and ``search/valid_loss`` do, and all of ``alphas/<choice>/…``.

    Args:
        tags: Of the scalars.
        reserved: Categories that stand empty in their place, for the charts of other layouts: TensorBoard
            puts layouts together by category, in the order of the folders' names.
    """
    charts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for tag in sorted(tags):
        category, _, name = tag.partition("/")
        chart = name.rpartition("/")[0] or _SPLITS.sub("", name)
        charts[category][chart].append(f"^{re.escape(tag)}$")
    return {
        category: {
            chart: ["Multiline", charts[category][chart]] for chart in _first(charts[category], _FIRST)
        }
        for category in _first(dict.fromkeys((*reserved, *charts)), _ORDER)
    }


def _first(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """The names in order: those that are to come first, then the others as they are."""
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def side_by_side(images: torch.Tensor) -> np.ndarray:
    """Images B C H W from 0 to 1 as one of uint8, H W 3, in rows of eight, small ones enlarged."""
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    factor = -(-_SMALLEST // pixels.shape[2]) if pixels.shape[2] < _SMALLEST else 1
    pixels = pixels.expand(-1, 3, -1, -1).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    count, _, height, width = pixels.shape
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    page = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for index, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        top, left = index // columns * (height + 2), index % columns * (width + 2)
        page[top : top + height, left : left + width] = image
    return page
