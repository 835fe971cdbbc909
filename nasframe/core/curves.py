"""What was recorded of a stage over its epochs, to be read and to be drawn."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, final

from nasframe.core.picture import Picture

_COLUMNS: Final = 3
_PANEL: Final = (3.6, 2.3)  # inches
_SPLITS: Final = ("train", "valid")

Series: TypeAlias = Sequence[float | None]
"""A value an epoch; None where there was none, or none that is finite."""


@final
class Curves(Mapping[str, Series]):
    """Figures over the epochs by name, such as ``train_loss``.

    Args:
        curves: By name; all of one length.
    """

    def __init__(self, curves: Mapping[str, Series]) -> None:
        self._curves = dict(curves)

    def __getitem__(self, name: str) -> Series:
        return self._curves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)

    def __repr__(self) -> str:
        return f"Curves({', '.join(self._curves)})"

    def plot(self, *names: str) -> Picture:
        """Draw a panel for each figure, with training and validation in one.

        Args:
            names: Which figures, without their split, such as ``loss``; by default all.

        Raises:
            KeyError: There is no such figure.
        """
        panels: dict[str, dict[str, Series]] = {}
        for name, values in self.items():
            split, _, figure = name.partition("_")
            split, figure = (split, figure) if split in _SPLITS and figure else ("", name)
            panels.setdefault(figure, {})[split] = values
        return _drawn({name: panels[name] for name in names or panels}, legend=_SPLITS)


@final
class Alphas(Mapping[str, Mapping[str, Series]]):
    """The weights of the candidates over the epochs, by choice and candidate.

    Args:
        weights: By choice and candidate.
    """

    def __init__(self, weights: Mapping[str, Mapping[str, Series]]) -> None:
        self._weights = {choice: dict(series) for choice, series in weights.items()}

    def __getitem__(self, choice: str) -> Mapping[str, Series]:
        return self._weights[choice]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __repr__(self) -> str:
        return f"Alphas({', '.join(self._weights)})"

    def plot(self, *choices: str) -> Picture:
        """Draw a panel for each choice, a line for each candidate, the strongest one broad.

        Args:
            choices: Which; by default all.

        Raises:
            KeyError: There is no such choice.
        """
        panels = {choice: self[choice] for choice in choices or self}
        candidates = dict.fromkeys(name for series in panels.values() for name in series)
        return _drawn(panels, legend=tuple(candidates), with_strongest=True)


def _strongest(panel: Mapping[str, Series]) -> str | None:
    last = {name: values[-1] or 0.0 for name, values in panel.items() if values}
    return max(last, key=last.__getitem__, default=None)


def _drawn(
    panels: Mapping[str, Mapping[str, Series]], legend: Sequence[str], *, with_strongest: bool = False
) -> Picture:
    """Draw panels of lines over the epochs.

    Args:
        panels: By title and line; an empty name has no place in the legend.
        legend: The names of the lines, in the order of their colors.
        with_strongest: Draw the line that ends highest broad, and name it in the title; all panels then have
            one scale.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = max(1, min(_COLUMNS, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1] + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=with_strongest)
    lines: dict[str, Any] = {}
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        strong = _strongest(panel) if with_strongest else None
        for name, values in panel.items():
            color = f"C{legend.index(name) % 10}" if name in legend else "C0"
            shown = [math.nan if value is None else value for value in values]
            marker = "o" if sum(map(math.isfinite, shown)) == 1 else ""  # one value makes no line
            width = 2.6 if name == strong else 1.3
            epochs = range(1, len(shown) + 1)
            (lines[name],) = axis.plot(epochs, shown, color=color, linewidth=width, marker=marker)
        axis.set_title(f"{title}: {strong}" if strong else title, fontsize=9, loc="left", parse_math=False)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("epoch", fontsize=9)
    named = [name for name in legend if name in lines]
    if named:
        handles = [lines[name] for name in named]
        drawn = figure.legend(handles, named, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
        for text in drawn.get_texts():
            text.set_parse_math(False)  # a name is what it is
    return Picture(figure)
