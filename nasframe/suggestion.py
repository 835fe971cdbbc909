"""What was probably meant by a name that there is not."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

_ALIKE: Final = 0.68  # a word of three letters is no spelling of another that shares two
_SHORT: Final = 4


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` misspells, else one that it lengthens, begins or abbreviates, or None.

    ``image_size`` lengthens ``size``, ``optim`` begins ``optimizer``, ``ops`` abbreviates ``operations``.
    """
    names = list(names)
    alike = difflib.get_close_matches(word, names, n=1, cutoff=_ALIKE)
    related = [name for name in names if _is_related(word, name)]
    return next(iter(alike or difflib.get_close_matches(word, related, n=1, cutoff=0.0)), None)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The question whether the nearest name is meant; empty if there is none."""
    found = nearest(word, names)
    return f"did you mean `{found}`?" if found else ""


def meant_path(path: Path, is_wanted: Callable[[Path], bool] = Path.exists) -> str:
    """The question whether a path is meant that lies beside one that is not there; empty if none does.

    Args:
        path: Where there is nothing.
        is_wanted: What the meant one must be.
    """
    try:
        missing = next((each for each in (path, *path.parents) if each.parent.is_dir()), path)
        if missing.exists():
            return ""
        is_last = missing == path
        beside = [
            each.name for each in missing.parent.iterdir() if (is_wanted if is_last else Path.is_dir)(each)
        ]
    except (OSError, ValueError):  # a folder that nobody may look into, or a name too long for one
        return ""
    if (found := nearest(missing.name, sorted(beside))) is None:
        return ""
    whole = missing.with_name(found) / path.relative_to(missing)
    return f"did you mean `{whole if whole.exists() else missing.with_name(found)}`?"


def _is_related(word: str, name: str) -> bool:
    if not word or not name:
        return False
    parts, others = set(word.split("_")), set(name.split("_"))
    return parts <= others or others <= parts or name.startswith(word) or _is_abbreviation(word, name)


def _is_abbreviation(word: str, name: str) -> bool:
    """Whether the shorter one has letters of the other, in order and from the first on."""
    short, long = sorted((word, name), key=len)
    letters = iter(long)
    return 1 < len(short) <= _SHORT and short[0] == long[0] and all(letter in letters for letter in short)
