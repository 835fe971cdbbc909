"""Readers: how a file becomes an input of a network, as it was when the network learned."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch

from nasframe.registry import Registry


class Reader(ABC):
    """Reads a file as one raw input, which the data set's `Preprocess` then makes a network's.

    Its settings are plain data, so that whoever has a network can be told how to read for it.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """How names of files end, in lower case, that are taken out of a folder."""

    @abstractmethod
    def read(self, path: Path) -> torch.Tensor:
        """One raw input, without the batch.

        Raises:
            DataError: It cannot be read; the message names the file.
        """

    def inputs(self, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
        """All raw inputs of a file, each with its place in it, such as ``line 3``; empty where it has one.

        Raises:
            DataError: It cannot be read; the message names the file.
        """
        yield "", self.read(path)


readers: Registry[Reader] = Registry("readers", Reader)
