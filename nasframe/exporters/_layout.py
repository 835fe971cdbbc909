"""Python text: expressions, where their lines break, and names and values that cannot become code.

Lines break as ruff and black break them, so that a written file is formatted.
"""

import builtins
import keyword
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import torch

WIDTH: Final = 88
_LONGEST_SENTENCE: Final = WIDTH - 11  # with its quotes, its full stop and its margin
ATOM: Final = 20
"""How strongly a name, a call or a literal binds; operators do so less."""


@final
class UnwritableError(Exception):
    """Something has no code; says why."""


@final
@dataclass(frozen=True)
class Text:
    """Code that stays on one line."""

    code: str
    binds: int = ATOM


@final
@dataclass(frozen=True)
class Call:
    """Something in brackets after a head: a call, a tuple, a list.

    Attributes:
        head: What stands before the bracket.
        args: What stands in it.
        names: The keyword of each argument, empty for none.
        comments: A line above each argument, empty for none.
        brackets: The two.
    """

    head: str
    args: tuple["Expr", ...]
    names: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    brackets: str = "()"
    binds: int = ATOM


@final
@dataclass(frozen=True)
class Binary:
    """Two operands of an operator that is left-associative."""

    operator: str
    left: "Expr"
    right: "Expr"
    binds: int


Expr: TypeAlias = Text | Call | Binary


def flat(expr: Expr) -> str:
    """An expression on one line."""
    if isinstance(expr, Text):
        return expr.code
    if isinstance(expr, Binary):
        return f"{_within(expr.left, expr.binds)} {expr.operator} {_within(expr.right, expr.binds + 1)}"
    inside = ", ".join(f"{name}{flat(arg)}" for name, arg in _named(expr))
    lone = "," if not expr.head and expr.brackets == "()" and len(expr.args) == 1 else ""
    return f"{expr.head}{expr.brackets[0]}{inside}{lone}{expr.brackets[1]}"


def _within(expr: Expr, binds: int) -> str:
    return flat(expr) if expr.binds >= binds else f"({flat(expr)})"


def operand(expr: Expr) -> str:
    """An expression on one line, as what an attribute, a call or an index follows."""
    return _within(expr, ATOM)


def lines(before: str, expr: Expr, after: str, indent: int) -> Iterator[str]:
    """An expression between two pieces of code, on as many lines as its width and its comments need."""
    margin = " " * indent
    one = f"{margin}{before}{flat(expr)}{after}"
    if len(one) <= WIDTH and not _has_comments(expr):
        yield one
    elif isinstance(expr, Call) and expr.args:
        yield f"{margin}{before}{expr.head}{expr.brackets[0]}"
        comments = expr.comments or ("",) * len(expr.args)
        for (name, arg), comment in zip(_named(expr), comments, strict=True):
            if comment:
                yield f"{margin}    # {comment}"
            yield from lines(name, arg, ",", indent + 4)
        yield f"{margin}{expr.brackets[1]}{after}"
    elif isinstance(expr, Binary):
        first, *others = _operands(expr)
        yield f"{margin}{before}("
        yield f"{margin}    {first}"
        yield from (f"{margin}    {expr.operator} {other}" for other in others)
        yield f"{margin}){after}"
    else:
        yield one


def _operands(expr: Binary) -> list[str]:
    """The operands of a chain of one operator."""
    left = expr.left
    first = (
        _operands(left)
        if isinstance(left, Binary) and left.operator == expr.operator
        else [_within(left, expr.binds)]
    )
    return [*first, _within(expr.right, expr.binds + 1)]


def _named(expr: Call) -> list[tuple[str, Expr]]:
    names = expr.names or ("",) * len(expr.args)
    return [(f"{name}=" if name else "", arg) for name, arg in zip(names, expr.args, strict=True)]


def _has_comments(expr: Expr) -> bool:
    return isinstance(expr, Call) and (any(expr.comments) or any(map(_has_comments, expr.args)))


def literal(value: Any) -> str:
    """A plain value as code.

    Raises:
        UnwritableError: It is not plain.
    """
    if value is None or value is ... or type(value) is bool:
        return "..." if value is ... else str(value)
    if type(value) is str:
        return quoted(value)
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else f'float("{float.__repr__(value)}")'
    if isinstance(value, int):
        return int.__repr__(int(value))
    if isinstance(value, (torch.dtype, torch.memory_format)) and re.fullmatch(r"torch\.\w+", str(value)):
        return str(value)
    if isinstance(value, tuple):
        items = ", ".join(map(literal, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    raise UnwritableError(f"it has a {type(value).__name__}, where plain values must stand")


def quoted(text: str) -> str:
    """A string as code, in double quotes where it has none itself."""
    return repr(text) if '"' in text else '"' + repr("'" + text)[2:]


def comment(text: str) -> str:
    """Any text as what may follow ``#`` on one line."""
    return ascii(text)[1:-1][:70]


def docstring(text: str | None) -> str:
    """The first sentence or line of any text, as what may stand in a docstring; may be empty."""
    paragraph = (text or "").strip().split("\n\n")[0]
    plain = " ".join(re.sub(r"[^\s!#-\[\]-~]", "", paragraph).split())  # printable ASCII but for \ and "
    short = re.split(r"(?<! al)\.(?: |$)", plain, maxsplit=1)[0]
    for end in ("; ", ": ", " (", ", ", " "):
        if len(short) > _LONGEST_SENTENCE:
            short = short[: _LONGEST_SENTENCE + 1].rpartition(end)[0] or short
    short = short[:_LONGEST_SENTENCE].rstrip(" .,:;")
    return f"{short[0].upper()}{short[1:]}." if short else ""


def identifier(text: str, taken: Collection[str] = (), *, otherwise: str = "part") -> str:
    """A name made of any text: letters, digits and underscores, unlike any keyword and what is taken."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")[:40] or otherwise
    if name[0].isdigit():
        name = f"{otherwise}_{name}"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name):
        name = f"{name}_"
    return unique(name, taken)


def unique(name: str, taken: Collection[str]) -> str:
    """A name, with the first number from 2 on that makes it another than those that are taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def class_name(text: str, taken: Collection[str]) -> str:
    """The same in the way of classes."""
    words = re.sub(r"[^0-9A-Za-z]+", " ", text).split() or ["Part"]
    name = "".join(word[0].upper() + word[1:] for word in words)[:40]
    name = f"Part{name}" if name[0].isdigit() else name
    number, candidate = 1, f"{name}_" if hasattr(builtins, name) or keyword.iskeyword(name) else name
    while candidate in taken:
        number += 1
        candidate = f"{name}{number}"
    return candidate


def attribute(path: Sequence[str]) -> str:
    """A name for a module by its path: ``cells.0.nodes`` is cell_0_nodes."""
    words: list[str] = []
    for part in path:
        if part.isdigit() and words:
            words[-1] = _singular(words[-1])
        words.append(part)
    return "_".join(words)


def _singular(word: str) -> str:
    for ending, other in (
        ("ies", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("sses", "ss"),
        ("ss", "ss"),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + other
    return word
