"""Derivers: rules that read an architecture off a supernet."""

from abc import ABC, abstractmethod

from nasframe.core.genotype import Genotype
from nasframe.core.model import Model
from nasframe.registry import Registry


class Deriver(ABC):
    """A rule from weights of candidates to a genotype; it never draws."""

    @abstractmethod
    def derive(self, model: Model) -> Genotype:
        """The architecture that `model` prefers now; nothing of the model changes."""


derivers: Registry[Deriver] = Registry("derivers", Deriver)
