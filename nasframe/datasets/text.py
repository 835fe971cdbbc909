"""Text of one's own."""

from typing import Final

import torch

from nasframe.core import Dataset, Task, TensorSplit, datasets, readers
from nasframe.datasets._rows import numbered, parted
from nasframe.errors import DataError
from nasframe.types import ExistingFile, PositiveInt, ProperFraction

_VOCABULARY: Final = 257  # the bytes, after 0 for what is beyond the end of a text


@datasets.register("text")
def text(*, path: ExistingFile, length: PositiveInt = 128, test_fraction: ProperFraction = 0.2) -> Dataset:
    """A file in UTF-8 with one text a line, after its class and a tab; empty lines are passed over.

    Tokens are the bytes of a text, each plus 1, so that no vocabulary is learned; 0 fills a text up. Which
    lines are for testing depends on their number and `test_fraction` alone.

    Args:
        path: The file.
        length: Tokens of each input; what a text has beyond them is left out.
        test_fraction: Share of the lines that are for testing.

    Raises:
        DataError: The file is none of that kind; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"text: {path} must be in UTF-8, but: {error}; convert it") from error
    labels, texts = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            label, tab, content = line.rstrip("\r").partition("\t")
            if not (tab and label.strip()):
                raise DataError(
                    f"text: {path.name}, line {number}: must be a class, a tab and a text, got `{line[:40]}`"
                )
            labels.append(label.strip())
            texts.append(content.encode()[:length])
    train, test = parted("text", len(texts), test_fraction)
    tokens_NT = torch.zeros(len(texts), length, dtype=torch.int64)
    for row_T, encoded in zip(tokens_NT, texts, strict=True):
        row_T[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.int64) + 1
    targets, names = numbered(labels)
    task = Task((length,), len(names), vocabulary=_VOCABULARY)
    return Dataset(
        TensorSplit(tokens_NT[train], targets[train]),
        TensorSplit(tokens_NT[test], targets[test]),
        task,
        class_names=names,
        reader=readers.component("text", length=length),
    )
