"""The rule by which DARTS reads an architecture off the alphas."""

from typing import final

from nasframe.core import (
    Deriver,
    Genotype,
    Model,
    Prices,
    derivers,
    finite_weights,
    most_likely,
    strengths_of,
)


@derivers.register("darts")
@final
class DartsRule(Deriver):
    """Keeps the strongest candidates by weight (Liu et al. 2019, section 2.4).

    A node keeps its `num_chosen` strongest inputs, each as strong as the largest weight of its edge
    among candidates that may be kept (not ``none``); a kept edge keeps its strongest such candidate.
    Weights are those after the mixed op's normalization, ``none`` included in it. Of equal ones the
    first wins. Inputs are listed strongest first, as the authors' code does. Other choices keep their
    strongest candidates, as far as they are in effect. Weights that are not finite are a TrainingError.

    This is the genotype with the largest product of the weights of all candidates that it keeps; under a
    budget it is the one with the largest product among those that keep it, found exactly.
    """

    def derive_within(self, model: Model, prices: Prices, max_cost: float) -> Genotype:
        strongest = self.derive(model)
        if prices.of(strongest) <= max_cost:
            return strongest
        found = most_likely(model.choices, finite_weights(model, "darts"), prices, max_cost)
        return model.genotype(found.choices)

    def derive(self, model: Model) -> Genotype:
        weights = finite_weights(model, "darts")
        kept: dict[str, tuple[str, ...]] = {}
        for choice in model.choices.values():
            strength = strengths_of(choice, model.choices, weights)
            names = sorted(strength, key=lambda name: -strength[name])[: choice.num_chosen]
            kept[choice.id] = tuple(names)
        return model.genotype(kept)
