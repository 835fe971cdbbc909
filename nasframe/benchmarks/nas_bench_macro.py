"""NAS-Bench-Macro: a table of 6,561 networks on CIFAR-10."""

import itertools
from typing import Any, ClassVar, final

from nasframe.benchmarks._table import Published
from nasframe.core import Benchmark, Choice, Genotype, Space, Standing, Task, benchmarks, choices_of, spaces
from nasframe.errors import FormatError
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
        keys = list(map("".join, itertools.product(*digits)))
        self._table = Published("NAS-Bench-Macro", keys, _SOURCE, _MAX_BYTES).read(path, _mean_accuracy)

    def standing(self, genotype: Genotype) -> Standing:
        return self._table.standing(self.key(genotype))

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


def _mean_accuracy(entry: Any) -> tuple[str, Any]:
    return "mean_acc", entry.get("mean_acc") if isinstance(entry, dict) else None
