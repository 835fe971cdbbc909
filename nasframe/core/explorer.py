"""Explorers: search methods that ask for the score of one architecture after another."""

from abc import ABC, abstractmethod
from typing import ClassVar

from nasframe.core.genotype import Genotype
from nasframe.registry import Registry


class Explorer(ABC):
    """Proposes architectures and hears their scores; the higher the better.

    What it proposes follows from the space, the seed and the scores alone: a search that was interrupted
    goes on by asking and telling again what was scored. It can be copied by `copy.deepcopy`, and the copy
    proposes the same: so scores are worked out side by side, before they are asked for.

    Attributes:
        uses_budgets: Whether it asks for scores that cost less than the whole budget.
    """

    uses_budgets: ClassVar[bool] = False

    @abstractmethod
    def ask(self) -> Genotype:
        """The next architecture to score.

        One that is not told was not allowed, such as over a budget; asked again, it proposes another.
        """

    @property
    def budget(self) -> float:
        """Share of the whole budget, such as epochs, that the score of what was last asked for may cost."""
        return 1.0

    @property
    def num_random(self) -> int:
        """How many of those that it proposes first are drawn uniformly, whatever was told: a baseline."""
        return 0

    @abstractmethod
    def tell(self, genotype: Genotype, score: float) -> None:
        """The score of an architecture that was asked for; −∞ where it has none, as one that diverged."""


explorers: Registry[Explorer] = Registry("explorers", Explorer, given=("space", "seed"))
