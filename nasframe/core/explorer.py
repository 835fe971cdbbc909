"""Explorers: search methods that ask for the score of one architecture after another."""

from abc import ABC, abstractmethod

from nasframe.core.genotype import Genotype
from nasframe.registry import Registry


class Explorer(ABC):
    """Proposes architectures and hears their scores; the higher the better."""

    @abstractmethod
    def ask(self) -> Genotype:
        """The next architecture to score."""

    @abstractmethod
    def tell(self, genotype: Genotype, score: float) -> None:
        """The score of an architecture that was asked for."""


explorers: Registry[Explorer] = Registry("explorers", Explorer, given=("space", "seed"))
