"""How far a run is: a bar on a terminal, lines now and then elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, final

import typer

from nasframe.launch import launch
from nasframe.pages.words import rate

if TYPE_CHECKING:
    from nasframe.types import Metrics

_MOST_LINES: Final = 100  # of a stage's epochs, besides those that long epochs make
_SCORE_LINES: Final = 10  # they have no epochs
_SECONDS_SILENT: Final = 60.0  # within an epoch


class ShownProgress(Protocol):
    """Shows each step of a run, and the architecture that a search prefers."""

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: "Metrics") -> None: ...

    def prefer(self, architecture: str) -> None:
        """Show an architecture, which is one line."""


@contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[ShownProgress]:
    """Progress on standard error, by what that is connected to; of several ranks the first shows it.

    Args:
        quiet: Show nothing.
    """
    if quiet or not launch().is_first:
        yield Silence()
    elif draws_bars(os.environ, is_terminal=sys.stderr.isatty()):
        from nasframe.cli.bars import bars

        with bars() as shown:
            yield shown
    else:
        lines = PlainLines()
        try:
            yield lines
        finally:
            lines.flush()


def draws_bars(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether lines can be drawn over: on a terminal, but not in a notebook's cell or a log of CI."""
    if environment.get("TERM", "dumb") == "dumb" or "JPY_PARENT_PID" in environment:
        return False
    return is_terminal and environment.get("CI", "").lower() in ("", "0", "false")


@final
class Silence:
    """Shows nothing."""

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: "Metrics") -> None:
        """Nobody hears it."""

    def prefer(self, architecture: str) -> None:
        """Nobody hears it."""


@final
class PlainLines:
    """A line after the last step of an epoch, or some scores; more of long epochs, fewer of many.

    Args:
        clock: Tells the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._printed = clock()
        self._last: tuple[str, int, int, int, Metrics] | None = None
        self._begun: dict[str, tuple[int, float]] = {}
        self._next = 0
        self._architecture = ""

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: "Metrics") -> None:
        now = self._clock()
        if stage not in self._begun:
            self.flush()
            self._begun[stage], self._next, self._printed = (step - 1, now), 0, now
        elif self._last is not None and self._is_due(epoch, self._last, now):
            self.flush()
        self._last = (stage, step, num_steps, epoch, metrics)

    def prefer(self, architecture: str) -> None:
        self._architecture = architecture

    def _is_due(self, epoch: int, last: "tuple[str, int, int, int, Metrics]", now: float) -> bool:
        _, step, num_steps, last_epoch, _ = last
        if epoch == 0:
            return step % max(1, num_steps // _SCORE_LINES) == 0
        return (epoch != last_epoch and step >= self._next) or now - self._printed >= _SECONDS_SILENT

    def flush(self) -> None:
        """Print what is not printed yet."""
        if self._last is None:
            return
        stage, step, num_steps, epoch, metrics = self._last
        now = self._clock()
        first, begun = self._begun[stage]
        parts = [
            f"{stage}: step {step}/{num_steps}",
            *figures(epoch, metrics),
            clock_time(now - self._started),
        ]
        if step < num_steps:
            left = metrics.get("work_left", (num_steps - step) / (step - first))
            parts.append(f"{clock_time((now - begun) * float(left))} left")
        typer.echo(", ".join(parts), err=True)
        if self._architecture:
            typer.echo(f"  {self._architecture}", err=True)
        self._last, self._printed, self._architecture = None, now, ""
        self._next = step + num_steps // _MOST_LINES


def figures(epoch: int, metrics: "Metrics", *, short: bool = False) -> list[str]:
    """What is known of a step, in words or short ones."""
    shown = [f"epoch {epoch}"] if epoch else []
    if "train_loss" in metrics:
        shown.append(f"loss {float(metrics['train_loss']):.4g}")
    if "train_accuracy" in metrics:
        shown.append(f"{'acc' if short else 'accuracy'} {float(metrics['train_accuracy']):.1%}")
    if "best_score" in metrics:
        shown.append(f"{'best' if short else 'best score'} {float(metrics['best_score']):.4g}")
    if "images_per_second" in metrics:
        shown.append(f"{rate(float(metrics['images_per_second']))} {'img' if short else 'images'}/s")
    return shown


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
