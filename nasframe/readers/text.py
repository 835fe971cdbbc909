"""Text files."""

from pathlib import Path
from typing import ClassVar, final

import torch

from nasframe.core import Reader, readers
from nasframe.core.json_text import read_bounded
from nasframe.errors import DataError, FormatError
from nasframe.types import PositiveInt


@readers.register("text")
@final
class Text(Reader):
    """A file in UTF-8 as one text: its bytes (int64, T), each plus 1, and 0 for what is beyond its end.

    The end of its last line is no part of it.

    Args:
        length: Tokens; what the text has beyond them is left out.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)

    def __init__(self, *, length: PositiveInt) -> None:
        self._length = length

    def read(self, path: Path) -> torch.Tensor:
        try:
            text = read_bounded(path).decode("utf-8-sig")
        except FormatError as error:
            raise DataError(str(error)) from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: the text must be in UTF-8, but: {error}; convert it") from error
        encoded = text.rstrip("\r\n").encode()[: self._length]
        tokens_T = torch.zeros(self._length, dtype=torch.int64)
        tokens_T[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.int64) + 1
        return tokens_T
