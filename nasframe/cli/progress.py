"""How far a run is: a bar on a terminal, a line an epoch elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import typer

from nasframe.launch import launch

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from nasframe.core import Progress
    from nasframe.types import Metrics

_SHOWN = {"train_loss": "loss", "train_accuracy": "accuracy", "best_score": "best score"}
_LINES = 10  # of scores: they have no epochs


@contextmanager
def shown_progress() -> Iterator["Progress"]:
    """Progress on standard error, by what that is connected to; of several ranks the first shows it."""
    if not launch().is_first:
        yield lambda *told: None
        return
    if not sys.stderr.isatty():
        lines = PlainLines()
        try:
            yield lines
        finally:
            lines.flush()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield TerminalBars(bars)


@final
class PlainLines:
    """One line an epoch, or some scores, after the last step that was heard of."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last: tuple[str, int, int, int, Metrics] | None = None

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: "Metrics") -> None:
        is_next = self._last is not None and (self._last[0], self._last[3]) != (stage, epoch)
        if is_next or (epoch == 0 and (step - 1) % max(1, num_steps // _LINES) == 0):
            self.flush()
        self._last = (stage, step, num_steps, epoch, metrics)

    def flush(self) -> None:
        """Print what is not printed yet."""
        if self._last is not None:
            stage, step, num_steps, epoch, metrics = self._last
            seconds = time.monotonic() - self._started
            figures = _figures(epoch, metrics)
            typer.echo(f"{stage}: step {step}/{num_steps}, {figures}, {seconds:.0f} s", err=True)
            self._last = None


@final
class TerminalBars:
    """A bar for each stage, with its epoch and figures."""

    _SECONDS_BETWEEN = 0.2  # figures may lie on an accelerator; reading them each step would slow it down

    def __init__(self, bars: "Bars") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._read = 0.0

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: "Metrics") -> None:
        now = time.monotonic()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=num_steps, completed=step - 1, figures="")
        elif step < num_steps and now - self._read < self._SECONDS_BETWEEN:
            return
        self._read = now
        self._bars.update(self._tasks[stage], completed=step, figures=_figures(epoch, metrics))


def _figures(epoch: int, metrics: "Metrics") -> str:
    shown = [f"{word} {float(metrics[name]):.4g}" for name, word in _SHOWN.items() if name in metrics]
    return ", ".join([f"epoch {epoch}", *shown] if epoch else shown)
