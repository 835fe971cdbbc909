"""NAS-Bench-Macro: a table of 6,561 networks on CIFAR-10."""

import itertools
from bisect import bisect_right
from pathlib import Path
from typing import Any, ClassVar, final

from nasframe.core import Benchmark, Choice, Genotype, Space, Standing, Task, benchmarks, choices_of, spaces
from nasframe.core.json_text import read_json_file
from nasframe.errors import DataError, FormatError
from nasframe.registry import Component
from nasframe.types import ExistingFile

_MAX_BYTES = 16 * 2**20  # some fourteen times the published file
_SOURCE = "get nas-bench-macro_cifar10.json from https://github.com/xiusu/NAS-Bench-Macro"


@benchmarks.register("nas_bench_macro")
@final
class NasBenchMacro(Benchmark):
    """The CIFAR-10 test accuracy of every network of the space macro (Su et al. 2021, arXiv 2103.11922).

    The accuracy is the mean of three trainings. A key of the table has a digit a layer: the place of the
    layer's block among the candidates of its choice.

    Args:
        path: The table, as its authors published it (JSON).

    Raises:
        DataError: There is no such file.
        FormatError: It is not the whole table.
    """

    space: ClassVar[Component[Space]] = spaces.component("macro", stages=(2, 3, 3))

    def __init__(self, *, path: ExistingFile) -> None:
        self._choices = choices_of(self.space(Task()))
        digits = ["".join(map(str, range(len(choice.candidates)))) for choice in self._choices.values()]
        self._accuracies = _read(path, {"".join(key) for key in itertools.product(*digits)})
        self._ascending = sorted(self._accuracies.values())

    def standing(self, genotype: Genotype) -> Standing:
        accuracy, count = self._accuracies[self.key(genotype)], len(self._ascending)
        return Standing(accuracy, 1 + count - bisect_right(self._ascending, accuracy), count)

    def key(self, genotype: Genotype) -> str:
        """The key of an architecture, such as ``22212220``.

        Raises:
            FormatError: It is not one of `space`.
        """
        if wrong := sorted(genotype.choices.keys() ^ self._choices.keys()):
            raise FormatError(
                f"nas_bench_macro: a genotype must decide exactly {', '.join(self._choices)}, but not so "
                f"{', '.join(wrong)}; search in the space macro"
            )
        return "".join(_digit(choice, genotype[choice.id]) for choice in self._choices.values())


def _digit(choice: Choice, kept: tuple[str, ...]) -> str:
    if len(kept) != 1 or kept[0] not in choice.candidates:
        raise FormatError(
            f"nas_bench_macro: choice `{choice.id}` must keep one of {', '.join(choice.candidates)}, "
            f"got {list(kept)}"
        )
    return str(choice.candidates.index(kept[0]))


def _read(path: Path, keys: set[str]) -> dict[str, float]:
    """The mean accuracy of each key, 0 to 1."""
    table = _parsed(path)
    if not isinstance(table, dict) or table.keys() != keys:
        found = f"{len(keys & table.keys())} of them" if isinstance(table, dict) else type(table).__name__
        raise FormatError(
            f"{path}: must be an object with exactly the {len(keys):,} keys of NAS-Bench-Macro, got {found}; "
            f"{_SOURCE}"
        )
    return {key: _accuracy(f"{path}: {key}", entry) for key, entry in table.items()}


def _parsed(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: must be the table of NAS-Bench-Macro, but is no file; {_SOURCE}")
    return read_json_file(path, _SOURCE, _MAX_BYTES)


def _accuracy(where: str, entry: Any) -> float:
    percent = entry.get("mean_acc") if isinstance(entry, dict) else None
    if not isinstance(percent, (int, float)) or isinstance(percent, bool) or not 0 <= percent <= 100:
        raise FormatError(f"{where}: mean_acc must be a number from 0 to 100, got {percent!r:.80}; {_SOURCE}")
    return percent / 100
