"""JSON from outside: bounded, with each key once and finite numbers alone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from nasframe.errors import FormatError

MAX_BYTES: Final = 64 * 2**20
MAX_DEPTH: Final = 100
_MAX_DIGITS: Final = 100
_PIECE: Final = 2**16  # bytes that are read at once
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


def read_json(text: str | bytes, where: str, advice: str = "") -> Any:
    """Plain data of a JSON text.

    Args:
        text: At most `MAX_BYTES` long, and nested at most `MAX_DEPTH` deep.
        where: What it is of, for messages.
        advice: What to do if it is not JSON; may be empty.

    Raises:
        FormatError: It is not JSON, too large or too deep, or has a key twice in an object, a number that is
            not finite or has more than 100 digits, or text that is not valid Unicode.
    """
    try:
        if len(text) > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES:,} bytes")
        value = json.loads(
            text,
            parse_constant=_refused_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_each_key_once,
        )
        _check(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: must be JSON: {_short(error)}" + (advice and f"; {advice}")) from error
    return value


def read_json_file(path: Path, advice: str = "", max_bytes: int = MAX_BYTES) -> Any:
    """Plain data of a JSON file, see `read_json`.

    Args:
        path: The file; read no further than `max_bytes`.
        advice: What to do if it is not JSON; may be empty.
        max_bytes: The most that it may have.

    Raises:
        FormatError: It cannot be read, or is not such JSON; the message names it.
    """
    return read_json(read_bounded(path, advice, max_bytes), str(path), advice)


def read_bounded(path: Path, advice: str = "", max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a file that must not be larger than so many bytes.

    Raises:
        FormatError: It cannot be read, or is larger; the message names it.
    """
    then = advice and f"; {advice}"
    try:
        with path.open("rb") as file:
            content = bytearray()  # grows with the file, where a large read would take all its room at first
            while len(content) <= max_bytes and (piece := file.read(_PIECE)):
                content += piece
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: must be a file that can be read: {error}{then}") from error
    if len(content) > max_bytes:
        raise FormatError(f"{path}: must have at most {max_bytes:,} bytes, got more{then}")
    return bytes(content)


def _refused_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits:.40} is too large for a number")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number must have at most {_MAX_DIGITS} digits, got {len(digits)}")
    return int(digits)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a key occurs twice: {max(names, key=names.count)!r:.80}")
    return entries


def _check(value: Any) -> None:
    """Raise ValueError where it nests too deep, or a text cannot be written again."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(each, str) and not each.isascii() and _HALF_A_PAIR.search(each) for each in level):
            raise ValueError("a text is not valid Unicode")
        level = [part for each in level for part in _parts(each)]
        if not level:
            return
    raise ValueError(f"nests more than {MAX_DEPTH} deep")


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _short(error: Exception) -> str:
    return "nests too deep" if isinstance(error, RecursionError) else str(error)
