"""Derivers: rules that read an architecture off a supernet."""

from abc import ABC, abstractmethod

from nasframe.core.genotype import Genotype
from nasframe.core.model import Model
from nasframe.core.prices import Prices
from nasframe.errors import UnsupportedError
from nasframe.registry import Registry


class Deriver(ABC):
    """A rule from weights of candidates to a genotype; it never draws."""

    @abstractmethod
    def derive(self, model: Model) -> Genotype:
        """The architecture that `model` prefers now; nothing of the model changes."""

    def derive_within(self, model: Model, prices: Prices, max_cost: float) -> Genotype:
        """The architecture that `model` prefers among those that cost at most `max_cost`.

        Where that excludes nothing it is what `derive` says.

        Args:
            model: Nothing of it changes.
            prices: Those of the space; ``prices.of(genotype)`` is at most `max_cost`.
            max_cost: In the unit of the prices.

        Raises:
            UnsupportedError: Even the cheapest architecture costs more, or the rule knows no budget; that
                is so unless a deriver overrides this.
        """
        raise UnsupportedError(
            f"deriver {type(self).__name__}: must be one that keeps a budget, but is none; "
            "choose another search.deriver, or another search.penalty"
        )


derivers: Registry[Deriver] = Registry("derivers", Deriver)
