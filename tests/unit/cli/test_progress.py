"""Progress: lines now and then, or a bar on a terminal."""

import io
import re

import pytest
import torch
from rich.console import Console

from nasframe.cli.bars import bars
from nasframe.cli.progress import PlainLines, Silence, draws_bars, shown_progress


class Clock:
    """Seconds that a test lets pass."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_one_line_an_epoch_is_printed_after_its_last_step(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = PlainLines(clock)
    for step in range(1, 5):
        clock.seconds += 2
        figures = {"train_loss": torch.tensor(step / 2), "train_accuracy": 0.5, "images_per_second": 1234.4}
        lines("search", step, 6, (step + 1) // 2, {**figures, "other": 1.0})
        if step == 3:
            lines.prefer("normal: 2 sep_conv_3x3")
    lines.flush()
    lines.flush()
    # steps 1 to 4 end 2, 4, 6, 8 seconds after the start; the first was begun after 2, as far as is known
    assert capsys.readouterr().err.splitlines() == [
        "search: step 2/6, epoch 1, loss 1, accuracy 50.0%, 1,234 images/s, 0:00:06, 0:00:08 left",
        "search: step 4/6, epoch 2, loss 2, accuracy 50.0%, 1,234 images/s, 0:00:08, 0:00:03 left",
        "  normal: 2 sep_conv_3x3",
    ]


def test_the_time_left_goes_by_the_work_that_is_left_where_steps_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    lines = PlainLines(clock)
    for step in (1, 2):
        clock.seconds += 10
        lines("search", step, 4, 0, {"best_score": 0.5, "work_left": 3.0})
    lines.flush()
    assert (
        "0:00:30 left" in capsys.readouterr().err
    )  # three times the ten seconds since the first step was told


def test_a_long_epoch_has_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = PlainLines(clock)
    for step in range(1, 20):
        lines("search", step, 100, 1, {})
        clock.seconds += 25
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == [f"search: step {step}/100" for step in (3, 6, 9, 12, 15, 18)]


def test_many_short_epochs_have_about_a_hundred_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines(Clock())
    for step in range(1, 2001):
        lines("retrain", step, 2000, (step + 1) // 2, {})
    lines.flush()
    told = capsys.readouterr().err.splitlines()
    assert 90 <= len(told) <= 110
    assert told[-1].startswith("retrain: step 2000/2000")


def test_scores_have_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines(Clock())
    for step in range(1, 51):
        lines("search", step, 50, 0, {"best_score": 0.25})
    lines.flush()
    told = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in told] == [f"search: step {step}/50" for step in range(5, 51, 5)]
    assert "best score 0.25" in told[0]


@pytest.mark.parametrize(("width", "accuracy"), [(80, "acc 75.0%"), (120, "accuracy 75.0%")])
def test_a_bar_shows_stage_steps_figures_and_architecture_within_the_terminal(
    width: int, accuracy: str
) -> None:
    screen = io.StringIO()
    with bars(Console(file=screen, force_terminal=True, width=width, legacy_windows=False)) as shown:
        shown("search", 1199, 1200, 599, {"train_loss": 0.4321, "train_accuracy": 0.25})
        shown.prefer("normal: 4 sep_conv_3x3\x1b[2J" + ", more" * 40)
        told = {"train_loss": 0.4321, "train_accuracy": 0.75, "images_per_second": 12345.6}
        shown("search", 1200, 1200, 600, told)
        shown("retrain", 1, 9, 1, {})
    for word in ("search", "1200/1200", "epoch 600", "loss 0.4321", accuracy, "12,346 im", "retrain"):
        assert word in screen.getvalue()
    printed = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()))
    assert max(map(len, printed)) <= width
    assert "normal: 4 sep_conv_3x3 [2J, more" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()


def test_the_time_left_on_a_bar_goes_by_the_work_that_is_left() -> None:
    screen, clock = io.StringIO(), Clock()
    console = Console(file=screen, force_terminal=True, width=120, legacy_windows=False, get_time=clock)
    with bars(console) as shown:
        shown("search", 1, 2, 0, {"best_score": 0.5, "work_left": 3.0})
        clock.seconds += 10
    assert "0:00:30 left" in screen.getvalue()  # half of the steps, but three times the work


@pytest.mark.parametrize(
    ("environment", "is_terminal", "drawn"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color"}, False, False),  # nohup, a pipe, a file
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "CI": "true"}, True, False),
        ({"TERM": "xterm", "CI": "false"}, True, True),
        ({"TERM": "xterm-color", "JPY_PARENT_PID": "7"}, True, False),  # `!nasframe run` in a notebook
    ],
)
def test_bars_are_drawn_only_where_lines_can_be_drawn_over(
    environment: dict[str, str], is_terminal: bool, drawn: bool
) -> None:
    assert draws_bars(environment, is_terminal=is_terminal) is drawn


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=True) as shown:
        shown("search", 1, 1, 1, {"train_loss": 1.0})
        shown.prefer("normal: skip_connect")
    assert isinstance(shown, Silence)
    assert capsys.readouterr() == ("", "")
