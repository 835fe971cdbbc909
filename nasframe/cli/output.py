"""How things are printed: tables, JSON, and problems with the line that they are on."""

import json
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from nasframe.errors import FaultWarning, FormerNameWarning, HealthWarning, Problem, RecipeError
from nasframe.launch import launch

_EXCERPT = 100
_UNCUT = 1000
_MOST_SHOWN = 100
_GAP = 3  # between two columns
_MOST_LINES = 3  # of a row, on average, before its cells are better read below each other


def print_json(value: Any) -> None:
    """Print plain data as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def flow(value: Any) -> str:
    """Plain data as YAML on one line."""
    from nasframe.recipe.yaml_text import dump_yaml

    return dump_yaml(value, flow=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; as wide as they are where nobody's terminal cuts them.

    Where a terminal is too narrow for that, the cells of a row stand below each other.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(zip(header, *rows, strict=True))
    words = [max(map(len, " ".join(column).split()), default=0) for column in columns]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, longest in zip(header, words, strict=True):
        # a column of a few is never narrower than its words, so that none is broken
        table.add_column(title, overflow="fold", min_width=longest if len(header) > 2 else None)
    for row in rows:
        table.add_row(*map(Text, row))
    if sys.stdout.isatty():
        console = Console()
        is_cramped = sum(words) + _GAP * (len(words) - 1) > console.width
        if len(header) > 2 and (
            is_cramped or len(console.render_lines(table)) > _MOST_LINES * (len(rows) + 1)
        ):
            _print_stacked(header, rows)
        else:
            console.print(table)
        return
    console = Console(width=_UNCUT)
    with console.capture() as printed:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def fits(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table needs no line more than it has rows, in the terminal if there is one."""
    widest = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    width = sum(widest) + _GAP * (len(widest) - 1)
    return not sys.stdout.isatty() or width <= shutil.get_terminal_size().columns


def _print_stacked(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as a few lines: its first cell, and below it the others that say something."""
    title, *others = header
    indent = max(map(len, others)) + 2 + _GAP
    typer.secho(f"{title}\n{'─' * max(len(title), 1)}", bold=True)
    for first, *cells in rows:
        typer.secho(wrapped(first), bold=True)
        for name, cell in zip(others, cells, strict=True):
            if cell:
                typer.echo(f"  {name:<{indent - 2}}{wrapped(cell, indent)}")


def wrapped(text: str, indent: int = 0) -> str:
    """A text that starts at a column, on as many lines as a terminal needs; on one where there is none."""
    if not sys.stdout.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - indent, 20)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def show_problems(error: RecipeError) -> None:
    """Print all problems on standard error, each with its source line."""
    for problem in error.problems[:_MOST_SHOWN]:
        typer.echo(_described(problem), err=True)
    count = len(error.problems)
    if count > _MOST_SHOWN:
        typer.echo(f"… and {count - _MOST_SHOWN} more; nasframe validate --json has all", err=True)
    typer.secho("1 problem" if count == 1 else f"{count} problems", err=True, fg="red", nl=False)
    codes = sorted({problem.kind.code for problem in error.problems})
    typer.echo(f"; more about it: nasframe explain {' '.join(codes)}", err=True)


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Print nasframe's own warnings, each on a line of standard error; other warnings as ever.

    What all ranks of a run are told, the first one prints.
    """
    own = (FormerNameWarning, FaultWarning, HealthWarning)
    with warnings.catch_warnings():
        for kind in own:
            warnings.simplefilter("always" if launch().is_first else "ignore", kind)
        show_other = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, own):
                typer.secho(f"warning: {printable(str(message))}", err=True, fg="yellow")
            else:
                show_other(message, category, *where, **more)

        warnings.showwarning = show
        yield


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """A problem as plain data; ``file``, ``line`` and ``column`` are empty on the command line."""
    said = {name: getattr(problem, name) for name in ("where", "path", "rule", "given", "advice")}
    file, line, column = problem.position
    return {"code": problem.kind.code, **said, "file": file, "line": line, "column": column}


def _described(problem: Problem) -> str:
    given = f", got {problem.given}" if problem.given else ""
    rule = f"{problem.path}: {problem.rule}" if problem.path else problem.rule
    where = typer.style(f"{printable(problem.where)}:", bold=True)
    lines = [f"{where} {problem.kind.code} {typer.style(printable(rule + given), fg='red')}"]
    lines += _excerpt(*problem.position)
    if problem.advice:
        lines.append(f"      = {printable(problem.advice)}")
    return "\n".join(lines)


def _excerpt(file: str, line: int, column: int) -> list[str]:
    """The source line with a caret beneath; nothing where there is none to show."""
    try:
        source = Path(file).read_text(encoding="utf-8-sig").splitlines() if file else []
    except (OSError, ValueError):
        return []
    if not 0 < line <= len(source):
        return []
    start = max(0, column - _EXCERPT)
    text = printable(source[line - 1][start : start + _EXCERPT + 20])
    return [f"{line:5} | {text}", f"      | {' ' * (column - 1 - start)}{typer.style('^', fg='red')}"]


def printable(text: str) -> str:
    """Without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)
