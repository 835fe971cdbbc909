"""The verb that says what a problem's code means."""

import shutil
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nasframe.cli.arguments import AsJson
from nasframe.cli.completion import complete_code
from nasframe.cli.output import print_json, print_table
from nasframe.problem_kinds import KINDS, Example, ProblemKind

_WIDTH = 100
_LONGEST_LINE = 200


def explain(
    codes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CODE]...",
            help="Such as NF012; by default all, briefly.",
            show_default=False,
            autocompletion=complete_code,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the code of a problem means. With a wrong and a right recipe."""
    kinds = [_kind(code) for code in codes or KINDS]
    if as_json:
        print_json([told(kind) for kind in kinds])
    elif codes:
        typer.echo("\n\n".join(map(_text, kinds)))
    else:
        print_table(["code", "what is wrong"], [[kind.code, kind.means] for kind in kinds])


def _kind(code: str) -> ProblemKind:
    kind = KINDS.get(f"NF{code:0>3}" if code.isdecimal() else code.upper())
    if kind is None:
        raise typer.BadParameter(f"no problem has the code `{code}`; `nasframe explain` lists all")
    return kind


def told(kind: ProblemKind) -> dict[str, Any]:
    """All that is said of a kind of problem, as plain data."""
    examples = {"wrong": _example_as_json(kind.wrong), "right": _example_as_json(kind.right)}
    return {"code": kind.code, "means": kind.means, "why": kind.why, **examples}


def _example_as_json(example: Example) -> dict[str, Any]:
    files = {name: _encodable(text) for name, text in example.files.items()}
    return {"recipe": _encodable(example.recipe or ""), "files": files, "arguments": _arguments(example)}


def _text(kind: ProblemKind) -> str:
    width = min(_WIDTH, shutil.get_terminal_size().columns)
    lines = [f"{typer.style(kind.code, bold=True)} {kind.means}", "", textwrap.fill(kind.why, width)]
    for title, color, example in (("wrong", "red", kind.wrong), ("right", "green", kind.right)):
        lines += ["", typer.style(f"{title}:", fg=color), *_shown(example)]
    return "\n".join(lines)


def _shown(example: Example) -> Iterator[str]:
    for name, text in example.files.items():
        yield from (f"    # {name}", *_indented(text))
    if example.files:
        yield "    # recipe.yaml"
    yield from _indented(example.recipe or "# (there is no such file)\n")
    if arguments := _arguments(example):
        yield f"    $ nasframe validate recipe.yaml {' '.join(arguments)}"


def _arguments(example: Example) -> list[str]:
    return [*example.overrides, *(word for plugin in example.plugins for word in ("--plugin", plugin))]


def _indented(text: str) -> list[str]:
    return [f"    {_cut(line)}" for line in _encodable(text).splitlines()]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def _encodable(text: str) -> str:
    """Bytes that are no text, written as Python writes them."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")
