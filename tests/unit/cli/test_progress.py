"""Progress: a line an epoch, or a bar on a terminal."""

import io

import pytest
import torch
from rich.console import Console
from rich.progress import Progress, TextColumn

from nasframe.cli.progress import PlainLines, TerminalBars


def test_one_line_an_epoch_is_printed_after_its_last_step(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines()
    for step in range(1, 5):
        lines("search", step, 5, (step + 1) // 2, {"train_loss": torch.tensor(step / 2), "other": 1.0})
    lines.flush()
    lines.flush()
    told = capsys.readouterr().err.splitlines()
    assert [line.rsplit(",", 1)[0] for line in told] == [
        "search: step 2/5, epoch 1, loss 1",
        "search: step 4/5, epoch 2, loss 2",
    ]


def test_a_bar_shows_stage_steps_and_figures() -> None:
    screen = io.StringIO()
    columns = (TextColumn("{task.description} {task.completed}/{task.total} {task.fields[figures]}"),)
    with Progress(*columns, console=Console(file=screen, force_terminal=True, width=80)) as bars:
        shown = TerminalBars(bars)
        shown("search", 3, 4, 1, {"train_loss": 0.5, "train_accuracy": 0.25})
        shown("search", 4, 4, 2, {"train_loss": 0.5, "train_accuracy": 0.75})
        shown("retrain", 1, 9, 1, {})
    assert "search 4/4 epoch 2, loss 0.5, accuracy 0.75" in screen.getvalue()
    assert "retrain 1/9 epoch 1" in screen.getvalue()
