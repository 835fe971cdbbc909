"""Tables in terminals of several widths."""

import re
import sys

import pytest

from nasframe.cli.output import fits, print_table

HEADER = ["setting", "type", "meaning"]
ROWS = [
    ["alpha_optimizer", "one of finite_difference, exact", "How the second derivatives are computed " * 3],
    ["chunks", "positive int", ""],
]
WORDS = {word for row in [HEADER, *ROWS] for cell in row for word in cell.split()}


@pytest.fixture
def shown(monkeypatch, capsys):
    """Prints a table in a terminal so many columns wide, and returns its lines."""

    def show(width: int, header: list[str], rows: list[list[str]]) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        print_table(header, rows)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        return [line.rstrip() for line in plain.splitlines()]

    return show


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_word_is_broken_and_no_line_is_longer_than_the_terminal(shown, width):
    lines = shown(width, HEADER, ROWS)
    assert {word for line in lines for word in line.split()} >= WORDS
    assert max(map(len, lines)) <= width


def test_where_columns_would_be_cramped_the_cells_of_a_row_stand_below_each_other(shown):
    lines = shown(60, HEADER, ROWS)
    assert lines[2:5] == [
        "alpha_optimizer",
        "  type      one of finite_difference, exact",
        "  meaning   How the second derivatives are computed How the",
    ]
    assert lines[-2:] == ["chunks", "  type      positive int"]
    assert shown(200, HEADER, ROWS)[0].split() == HEADER


def test_a_table_of_names_and_values_stays_one_in_any_terminal(shown):
    rows = [["found", "skip_connect " * 20], ["report", "r" * 70]]
    lines = shown(60, ["result", ""], rows)
    assert [line.split()[0] for line in lines if line[:1].isalpha()] == ["result", "found", "report"]


def test_a_table_that_nobody_cuts_fits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert fits(HEADER, ROWS)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert not fits(HEADER, ROWS)
    assert fits(["a", "b"], [["x" * 8, "y" * 9]])  # with three columns between the two
    assert not fits(["a", "b"], [["x" * 9, "y" * 9]])
