"""Bars on a terminal; apart, because importing what draws them takes time."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from nasframe.cli.output import printable
from nasframe.cli.progress import clock_time, figures

if TYPE_CHECKING:
    from nasframe.types import Metrics

_WIDE: Final = 100  # columns of a terminal that has room for whole words
_SHORT_WIDTH, _LONG_WIDTH = 72, 92  # of everything but the bar
_SECONDS_BETWEEN: Final = 0.2  # figures may lie on an accelerator; reading them each step would slow it down


@contextmanager
def bars(console: Console | None = None) -> Iterator["TerminalBars"]:
    """Bars on standard error, or a console."""
    console = console or Console(stderr=True)
    with _Lines(console) as lines:
        yield TerminalBars(lines)


@final
class TerminalBars:
    """A bar for each stage, with its epoch and figures, above the architecture that the search prefers."""

    def __init__(self, lines: "_Lines") -> None:
        self._lines = lines
        self._tasks: dict[str, TaskID] = {}
        self._read = 0.0

    def __call__(self, stage: str, step: int, num_steps: int, epoch: int, metrics: "Metrics") -> None:
        now = time.monotonic()
        if stage not in self._tasks:
            self._tasks[stage] = self._lines.add_task(stage, total=num_steps, completed=step - 1, figures="")
        elif step < num_steps and now - self._read < _SECONDS_BETWEEN:
            return
        self._read = now
        told = " ".join(figures(epoch, metrics, short=self._lines.is_narrow))
        left = metrics.get("work_left")
        self._lines.update(self._tasks[stage], completed=step, figures=told, work_left=left)

    def prefer(self, architecture: str) -> None:
        self._lines.architecture = printable(architecture)


@final
class _Lines(Progress):
    """The lines that are drawn over and over."""

    def __init__(self, console: Console) -> None:
        self.is_narrow = console.width < _WIDE
        width = min(max(console.width - (_SHORT_WIDTH if self.is_narrow else _LONG_WIDTH), 5), 30)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=width),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            _Left("" if self.is_narrow else " left"),
        )
        self.architecture = ""  # which is asked for while the rest is set up
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.architecture:
            yield Text(self.architecture, style="dim", no_wrap=True, overflow="ellipsis")


@final
class _Left(ProgressColumn):
    """The time that is left, and that which a stage took when it is done."""

    max_refresh = 0.5

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(clock_time(task.finished_time or 0.0), style="green")
        work = task.fields.get("work_left")  # beside what was done: steps may differ in what they take
        left = task.time_remaining if work is None or task.elapsed is None else task.elapsed * work
        return Text("" if left is None else f"{clock_time(left)}{self._word}", style="cyan")
