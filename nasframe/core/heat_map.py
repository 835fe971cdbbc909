"""Heat maps: a table of numbers as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_SIZE: Final = 480  # pixels that the cells take, where they can
_CELL: Final = 44  # the largest cell, and the smallest one with a text in it is half of that
_ROW: Final = 18
_FONT: Final = 12
_GAP: Final = 6
_LONGEST: Final = 40  # characters of a name
_INK, _PAPER, _ABSENT = (31, 41, 51), (255, 255, 255), (225, 225, 225)
_SHADES: Final = ((247, 250, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
_Texts: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Numbers by row and column, the larger the darker.

    Attributes:
        title: What it shows.
        rows: Name of each row, from above.
        columns: Name of each column, from the left.
        values: Of shape (rows, columns); not a number where there is none.
        texts: What stands in each cell where there is room; empty for nothing.
        highest: The value of the darkest color; 0 is the lightest.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    texts: _Texts = ()
    highest: float = 1.0


def paint(heat_map: HeatMap) -> np.ndarray:
    """The picture as uint8, of shape H W 3."""
    from PIL import Image, ImageDraw

    num_rows, num_columns = heat_map.values.shape
    has_texts = bool(heat_map.texts) and max(num_rows, num_columns) * _CELL // 2 <= _SIZE
    height = _CELL // 2 if has_texts else max(1, min(_ROW, _SIZE // num_rows))
    width = max(1, min(_CELL, _SIZE // num_columns))
    rows = _row_names(tuple(map(_short, heat_map.rows)), height) if height >= _FONT else None
    left = (rows.width if rows else 0) + 2 * _GAP
    columns = _column_names(tuple(map(_short, heat_map.columns)), width)
    top, bottom = _FONT + 2 * _GAP, columns.height + 2 * _GAP
    wide = max(num_columns * width, _width(heat_map.title) + _GAP - left)
    picture = Image.new("RGB", (left + wide + _GAP, top + num_rows * height + bottom), _PAPER)
    cells = Image.fromarray(_colors(heat_map.values / (heat_map.highest or 1.0)))
    picture.paste(
        cells.resize((num_columns * width, num_rows * height), Image.Resampling.NEAREST), (left, top)
    )
    pen = ImageDraw.Draw(picture)
    pen.text((_GAP, _GAP), heat_map.title, _INK, _font())
    if rows:
        picture.paste(rows, (_GAP, top))
    if has_texts:
        _write_cells(pen, heat_map, (left, top), (width, height))
    picture.paste(columns, (left, top + num_rows * height + _GAP))
    return np.asarray(picture)


def _write_cells(pen: "ImageDraw", heat_map: HeatMap, corner: tuple[int, int], size: tuple[int, int]) -> None:
    for row, texts in enumerate(heat_map.texts):
        for column, text in enumerate(texts):
            place = (corner[0] + (column + 0.5) * size[0], corner[1] + (row + 0.5) * size[1])
            is_dark = heat_map.values[row, column] > 0.5 * heat_map.highest
            pen.text(place, text, _PAPER if is_dark else _INK, _font(), anchor="mm")


@lru_cache(maxsize=8)  # many choices have the same candidates
def _row_names(names: tuple[str, ...], height: int) -> "Image":
    """The names beside their rows."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (max(map(_width, names)), height * len(names)), _PAPER)
    pen = ImageDraw.Draw(picture)
    for index, name in enumerate(names):
        pen.text((picture.width, (index + 0.5) * height), name, _INK, _font(), anchor="rm")
    return picture


@lru_cache(maxsize=8)
def _column_names(names: tuple[str, ...], width: int) -> "Image":
    """The names below their columns: level where they fit, else upright; else the first and the last."""
    from PIL import Image, ImageDraw

    longest = max(map(_width, names))
    is_level, is_upright = longest <= width - 2, width >= _FONT
    shown = range(len(names)) if is_level or is_upright else (0, len(names) - 1)
    if is_level or not is_upright:
        picture = Image.new("RGB", (width * len(names), _FONT + 2), _PAPER)
        pen = ImageDraw.Draw(picture)
        for index in shown:
            place = (min(max((index + 0.5) * width, longest / 2), picture.width - longest / 2), 0)
            pen.text(place, names[index], _INK, _font(), anchor="ma")
        return picture
    sideways = Image.new("RGB", (longest + 2, width * len(names)), _PAPER)
    pen = ImageDraw.Draw(sideways)
    for index in shown:
        pen.text((sideways.width - 1, (index + 0.5) * width), names[index], _INK, _font(), anchor="rm")
    return sideways.transpose(Image.Transpose.ROTATE_90)


def _colors(shares: np.ndarray) -> np.ndarray:
    """Colors (uint8) of shares from 0 to 1, between which the shades are mixed."""
    places = np.linspace(0, 1, len(_SHADES))
    channels = [np.interp(shares, places, channel) for channel in np.array(_SHADES).T]
    return np.where(np.isfinite(shares)[..., None], np.stack(channels, -1), _ABSENT).round().astype(np.uint8)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


@lru_cache(maxsize=1)
def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(_FONT)


def _width(text: str) -> int:
    return int(_font().getlength(text)) + 1
