"""What was measured of several things, as a table."""

from collections.abc import Mapping
from typing import Final

from nasframe.quantity import spell_bytes, spell_seconds

_TITLES: Final = {"bytes": "size"}


def table_of(figures: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """A header, and a row for each thing; a figure that it lacks is empty.

    Args:
        figures: By what they are of, then by name. A name ends in ``accuracy`` or ``_ms`` where it is one,
            and ``bytes`` is a size.
    """
    names = list(dict.fromkeys(name for each in figures.values() for name in each))
    header = ["network", *(_TITLES.get(name, name).removesuffix("_ms").replace("_", " ") for name in names)]
    rows = [[of, *(_spell(name, each.get(name)) for name in names)] for of, each in figures.items()]
    return header, rows


def _spell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name.endswith("_ms"):
        return spell_seconds(value / 1000)
    if name == "bytes":
        return spell_bytes(round(value))
    return f"{value:.4g}"
