"""What a search adds to its algorithm: regularizers of the alphas, and a perturbation of the mixtures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from nasframe.core import Algorithm, Model, Objective, Perturbation, Perturbed, Regularized, Regularizer
from nasframe.registry import Component

MakeAlgorithm = Callable[[Model, Objective], Algorithm]


@final
@dataclass(frozen=True)
class Additions:
    """What is added.

    Attributes:
        regularizers: What alphas minimize besides all else.
        perturbation: How the mixtures are moved that weights are trained at.
    """

    regularizers: Sequence[Component[Regularizer]]
    perturbation: Component[Perturbation] | None

    def objective(self, objective: Objective, model: Model) -> Objective:
        """The objective that the search minimizes."""
        if not self.regularizers:
            return objective
        return Regularized(objective, model, [(each.name, each(model)) for each in self.regularizers])

    def algorithm(self, make: MakeAlgorithm) -> MakeAlgorithm:
        """What builds the algorithm."""
        if self.perturbation is None:
            return make
        perturbation = self.perturbation()
        return lambda model, objective: Perturbed(make(model, objective), model, objective, perturbation)


def figures_of(objective: Objective) -> Mapping[str, float]:
    """What to record of the regularizers."""
    return objective.figures() if isinstance(objective, Regularized) else {}
