"""The rule by which DARTS reads an architecture off the alphas."""

import math
from typing import final

from nasframe.core import Choice, Deriver, Genotype, InputChoice, Model, Prices, derivers, most_likely
from nasframe.errors import TrainingError


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
        found = most_likely(model.choices, self._weights(model), prices, max_cost)
        return model.genotype(found.choices)

    def _weights(self, model: Model) -> dict[str, list[float]]:
        weights = {name: value.tolist() for name, value in model.choice_weights().items()}
        if wrong := [name for name, values in weights.items() if not all(map(math.isfinite, values))]:
            raise TrainingError(f"deriver darts: weights of candidates must be finite, but not of {wrong}")
        return weights

    def derive(self, model: Model) -> Genotype:
        weights = self._weights(model)
        kept: dict[str, tuple[str, ...]] = {}
        for choice in model.choices.values():
            strength = self._strengths(choice, model.choices, weights)
            names = sorted(strength, key=lambda name: -strength[name])[: choice.num_chosen]
            kept[choice.id] = tuple(names)
        return model.genotype(kept)

    def _strengths(
        self, choice: Choice, choices: dict[str, Choice], weights: dict[str, list[float]]
    ) -> dict[str, float]:
        if isinstance(choice, InputChoice) and choice.edges:
            return {
                name: max(self._strengths(choices[edge], choices, weights).values())
                for name, edge in zip(choice.candidates, choice.edges, strict=True)
            }
        own = weights.get(choice.id, [0.0] * len(choice.candidates))
        by_name = dict(zip(choice.candidates, own, strict=True))
        return {name: by_name[name] for name in choice.derivable}
