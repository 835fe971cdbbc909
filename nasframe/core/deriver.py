"""Derivers: rules that read an architecture off a supernet."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

from nasframe.core.choice import Choice, InputChoice
from nasframe.core.genotype import Genotype
from nasframe.core.model import Model
from nasframe.core.prices import Prices
from nasframe.errors import TrainingError, UnsupportedError
from nasframe.registry import Registry

Validate: TypeAlias = Callable[[Model], float]
"""How good a model is now: the accuracy on the held-out examples, or minus their loss if there is none."""


class Deriver(ABC):
    """A rule from weights of candidates to a genotype; it never draws.

    Attributes:
        reads: What each mixed op of the model must be.
        validates: Whether, at the end of a search, it asks what parts of the supernet are worth on held-out
            examples (see `derive_validated`).
    """

    reads: ClassVar[type] = object
    validates: ClassVar[bool] = False

    @abstractmethod
    def derive(self, model: Model) -> Genotype:
        """The architecture that `model` prefers now; nothing of the model changes."""

    def derive_validated(self, model: Model, validate: Validate) -> Genotype:
        """The architecture that a whole search ends with; what `derive` says, unless it `validates`.

        Args:
            model: Nothing of it changes, but for the time of a call of `validate`.
            validate: Passes all held-out examples.
        """
        return self.derive(model)

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


def finite_weights(model: Model, deriver: str) -> dict[str, list[float]]:
    """The weights of the candidates of each choice that has a mixed op.

    Args:
        model: The supernet.
        deriver: For the message.

    Raises:
        TrainingError: Some are not finite.
    """
    weights = {name: value.tolist() for name, value in model.choice_weights().items()}
    if wrong := [name for name, values in weights.items() if not all(map(math.isfinite, values))]:
        raise TrainingError(f"deriver {deriver}: weights of candidates must be finite, but not of {wrong}")
    return weights


def strengths_of(
    choice: Choice, choices: Mapping[str, Choice], weights: Mapping[str, list[float]]
) -> dict[str, float]:
    """How strong the candidates of a choice are that may be kept, by name.

    That is their weight; of an input with an edge, the largest weight of that edge (Liu et al. 2019,
    section 2.4); and 0 in a choice without weights.
    """
    if isinstance(choice, InputChoice) and choice.edges:
        return {
            name: max(strengths_of(choices[edge], choices, weights).values())
            for name, edge in zip(choice.candidates, choice.edges, strict=True)
        }
    own = weights.get(choice.id, [0.0] * len(choice.candidates))
    by_name = dict(zip(choice.candidates, own, strict=True))
    return {name: by_name[name] for name in choice.derivable}
