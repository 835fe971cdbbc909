"""NAS-Bench-201: a table of 15,625 networks."""

import itertools
from typing import ClassVar, Final, final

from nasframe.benchmarks._table import Published
from nasframe.core import Benchmark, Genotype, Space, Standing, Task, benchmarks, choices_of, spaces
from nasframe.errors import FormatError
from nasframe.registry import Component
from nasframe.types import ExistingFile

_OPERATIONS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_MAX_BYTES: Final = 16 * 2**20  # some eight times a file without spaces
_SOURCE: Final = "write it from the authors' API, as docs/nas_bench_201.md says"


@benchmarks.register("nas_bench_201")
@final
class NasBench201(Benchmark):
    """The accuracies of all networks of the space nas_bench_201 (Dong and Yang 2020, arXiv 2001.00326).

    The authors publish them as pickled files, which run code when they are read. So the table is a JSON
    object that maps each arch string to an accuracy in percent: on the data set, after the epochs, and as the
    mean of the trainings that whoever wrote it chose.

    Args:
        path: The table (JSON).

    Raises:
        DataError: There is no such file.
        FormatError: It is not the whole table.
    """

    space: ClassVar[Component[Space]] = spaces.component("nas_bench_201", operations=_OPERATIONS)

    def __init__(self, *, path: ExistingFile) -> None:
        self._space = self.space(Task())
        choices = choices_of(self._space)
        kept = itertools.product(*(choice.candidates for choice in choices.values()))
        genotypes = (
            Genotype({edge: (name,) for edge, name in zip(choices, each, strict=True)}) for each in kept
        )
        published = Published("NAS-Bench-201", list(map(self._key, genotypes)), _SOURCE, _MAX_BYTES)
        self._table = published.read(path, lambda entry: ("accuracy", entry))

    def standing(self, genotype: Genotype) -> Standing:
        return self._table.standing(self._key(genotype))

    def _key(self, genotype: Genotype) -> str:
        try:
            key = self._space.key(genotype)
        except FormatError as error:
            raise FormatError(f"nas_bench_201: {error}; search in the space nas_bench_201") from error
        assert key is not None
        return key
