"""Markdown from plain data."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_LONGEST_LINE: Final = 200
_CODE_OR_LINK: Final = re.compile(r"(``.+?``|`[^`]+`|<https?://\S+>)", re.DOTALL)


def prose(text: str) -> str:
    """Text of a docstring: what is neither code nor link keeps its stars, brackets and underscores."""
    parts = _CODE_OR_LINK.split(text)
    escaped = (re.sub(r"([\\*_<\[$#|])", r"\\\1", part) for part in parts[::2])
    return "".join(part for pair in zip(escaped, [*parts[1::2], ""], strict=True) for part in pair)


def first_line(docstring: str | None) -> str:
    """The summary of a docstring."""
    return prose((docstring or "").strip().split("\n")[0])


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; its cells are Markdown on one line."""
    cells = [[cell.replace("\\|", "|").replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], f"|{' --- |' * len(cells[0])}", *lines[1:]])


def block(language: str, text: str) -> str:
    """A block of code; of very long lines the beginning."""
    lines = [f"{line[:_LONGEST_LINE]}…" if len(line) > _LONGEST_LINE else line for line in text.splitlines()]
    return "\n".join([f"```{language}", *lines, "```"])


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms, each with what it means; it fits a narrow screen."""
    return "\n".join(f"{term}\n: {meaning}\n" for term, meaning in pairs)


def settings(described: Iterable[Mapping[str, Any]]) -> str:
    """What `nasframe show` tells of settings, as a list."""
    return definitions((_head(each), prose(each["meaning"])) for each in described)


def _head(setting: Mapping[str, Any]) -> str:
    default = "must be given" if setting["required"] else f"default `{setting['default_text']}`"
    return f"`{setting['name']}` {prose(setting['type'])}, {default}"


def contents(names: Iterable[str]) -> str:
    """The pages below this one, for the navigation alone."""
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])
