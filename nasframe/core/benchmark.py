"""Benchmarks: tables that tell how good each architecture of a space is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from nasframe.core.genotype import Genotype
from nasframe.core.space import Space
from nasframe.registry import Component, Registry


@final
@dataclass(frozen=True)
class Standing:
    """Where an architecture stands among all those of a table.

    Attributes:
        accuracy: What the table says that it reaches, 0 to 1.
        rank: 1 for the best; equally accurate ones share a rank.
        count: How many architectures there are.
    """

    accuracy: float
    rank: int
    count: int

    @property
    def percentile(self) -> float:
        """Percentage of the architectures that are no more accurate than this one; 100 for the best."""
        return 100 * (self.count - self.rank + 1) / self.count


class Benchmark(ABC):
    """The measured accuracies of all architectures of a space, to judge a search by; it never learns them.

    Attributes:
        space: The space, with those of its settings that must be as they are. Others are free, such as
            the channels of the supernet: the table speaks of architectures, not of what searches them.
    """

    space: ClassVar[Component[Space]]

    @abstractmethod
    def standing(self, genotype: Genotype) -> Standing:
        """Look an architecture up.

        Raises:
            FormatError: It is not one of `space`.
        """


benchmarks: Registry[Benchmark] = Registry("benchmarks", Benchmark)
