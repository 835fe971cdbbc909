"""How PC-DARTS reads an architecture off the alphas and betas."""

import math
from typing import final

from nasframe.core import Choice, Deriver, Genotype, InputChoice, Model, derivers
from nasframe.errors import TrainingError


@derivers.register("pcdarts")
@final
class EdgeRule(Deriver):
    """Keeps the strongest edges by the product of both weights (Xu et al. 2020, section 3.3).

    An input of a node is as strong as softmax(beta) of the input times the largest softmax(alpha) of its
    edge among candidates that may be kept (not ``none``). A node keeps its `num_chosen` strongest inputs,
    a kept edge its strongest candidate. Where inputs have no weights of their own, this is the rule of
    DARTS. Of equal ones the first wins. Weights that are not finite are a TrainingError.
    """

    def derive(self, model: Model) -> Genotype:
        strengths = _Strengths(model)
        kept = {}
        for choice in model.choices.values():
            strength = strengths.of(choice)
            names = sorted(strength, key=lambda name: -strength[name])
            kept[choice.id] = tuple(names[: choice.num_chosen])
        return model.genotype(kept)


@final
class _Strengths:
    """How strong each candidate of a supernet is."""

    def __init__(self, model: Model) -> None:
        self._choices = model.choices
        self._weights = {name: weights.tolist() for name, weights in model.choice_weights().items()}
        wrong = [name for name, values in self._weights.items() if not all(map(math.isfinite, values))]
        if wrong:
            raise TrainingError(f"deriver pcdarts: weights of candidates must be finite, but not of {wrong}")

    def of(self, choice: Choice) -> dict[str, float]:
        """By name, for each candidate that may be kept."""
        own = dict(
            zip(
                choice.candidates,
                self._weights.get(choice.id, [1.0] * len(choice.candidates)),
                strict=True,
            )
        )
        if isinstance(choice, InputChoice):
            for name, edge in zip(choice.candidates, choice.edges, strict=False):
                own[name] *= max(self.of(self._choices[edge]).values())
        return {name: own[name] for name in choice.derivable}
