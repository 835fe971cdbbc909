"""The rule by which DARTS-PT reads an architecture off what the supernet loses."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch

from nasframe.core import (
    Choice,
    Deriver,
    Genotype,
    InputChoice,
    Model,
    Validate,
    WeightedSum,
    derivers,
)
from nasframe.core.model import evaluating
from nasframe.registry import Component

_DARTS = derivers.component("darts")


@derivers.register("perturbation")
@final
class PerturbationRule(Deriver):
    """Keeps the candidates that the supernet misses most (Wang et al. 2021, arXiv 2108.04392, Algorithm 1).

    Choice by choice, the supernet is validated without each of the candidates; the one whose absence costs
    most accuracy is kept, and mixes alone from then on. A choice that keeps several keeps those that
    cost most, each with weight 1. Then, node by node, the input is dropped whose absence costs least, until
    as many are left as the node keeps. Of equal ones the first is kept. Each candidate, and each input that
    could be dropped, costs a validation.

    Departures from the authors' code: choices are settled in the order of the space, where that draws one;
    weights are not tuned in between; validation is in evaluation mode, by running statistics, which after a
    training that drew its mixtures (`dirichlet`, `concrete`) are of what was drawn.

    Args:
        meanwhile: What each epoch shows until the search ends, for validations are dear.
    """

    reads: ClassVar[type] = WeightedSum
    validates: ClassVar[bool] = True

    def __init__(self, *, meanwhile: Component[Deriver] = _DARTS) -> None:
        self._meanwhile = meanwhile()

    def derive(self, model: Model) -> Genotype:
        return self._meanwhile.derive(model)

    def derive_validated(self, model: Model, validate: Validate) -> Genotype:
        with evaluating(model):
            supernet = _Shrinking(model, validate)
            kept = {
                choice.id: supernet.candidates(choice)
                if choice.id in model.mixed_ops
                else choice.derivable[: choice.num_chosen]
                for choice in model.choices.values()
            }
            for choice in model.choices.values():
                if isinstance(choice, InputChoice) and choice.edges:
                    kept[choice.id] = supernet.inputs(choice)
            return model.genotype(kept)


@final
class _Shrinking:
    """A supernet of which less and less is mixed."""

    def __init__(self, model: Model, validate: Validate) -> None:
        self._model, self._validate = model, validate
        self._mixtures = model.mixtures()

    def candidates(self, choice: Choice) -> tuple[str, ...]:
        """Settle a choice."""
        shares_K, accuracies = self._mixtures[choice.id], {}
        for name in choice.derivable:
            without_K = shares_K.clone()
            without_K[choice.candidates.index(name)] = 0
            accuracies[name] = self._accuracy({choice.id: without_K})
        kept = tuple(sorted(accuracies, key=lambda name: accuracies[name])[: choice.num_chosen])
        settled_K = torch.zeros_like(shares_K)
        settled_K[[choice.candidates.index(name) for name in kept]] = 1
        self._mixtures[choice.id] = settled_K
        return kept

    def inputs(self, choice: InputChoice) -> tuple[str, ...]:
        """Settle which inputs reach a node, when their edges are settled."""
        edges = dict(zip(choice.candidates, choice.edges, strict=True))
        while len(edges) > choice.num_chosen:
            accuracies = {
                name: self._accuracy({edge: torch.zeros_like(self._mixtures[edge])})
                for name, edge in edges.items()
            }
            least = max(reversed(accuracies), key=lambda name: accuracies[name])
            edge = edges.pop(least)
            self._mixtures[edge] = torch.zeros_like(self._mixtures[edge])
        return tuple(edges)

    def _accuracy(self, changed: Mapping[str, torch.Tensor]) -> float:
        with self._model.mixed_by({**self._mixtures, **changed}):
            return self._validate(self._model)
