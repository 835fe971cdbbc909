"""Regularizers: what alphas minimize besides the loss, of themselves alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, TypeVar, final, runtime_checkable

import torch

from nasframe.core.around import AroundObjective
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.errors import UnsupportedError
from nasframe.registry import Registry

Readable = TypeVar("Readable")


@runtime_checkable
class HasLogits(Protocol):
    """A mixed op with logits, whose softmax says how probable its candidates are."""

    def logits(self) -> torch.Tensor:
        """Of shape K; differentiable."""


@runtime_checkable
class HasGates(Protocol):
    """A mixed op with a gate from 0 to 1 for each candidate, which follows that candidate's alpha alone."""

    def gates(self) -> torch.Tensor:
        """Of shape K; differentiable."""


@runtime_checkable
class HasConcentration(Protocol):
    """A mixed op whose mixtures are drawn from a Dirichlet distribution."""

    def concentration(self) -> torch.Tensor:
        """The distribution's parameter, positive, of shape K; differentiable."""


class Regularizer(ABC):
    """A term that alphas minimize besides the loss, and that depends on upper-level parameters alone.

    Attributes:
        reads: What each mixed op of the model must be.
    """

    reads: ClassVar[type] = object

    @abstractmethod
    def __call__(self, progress: float) -> torch.Tensor:
        """The term with its weight, a scalar; differentiable.

        Args:
            progress: The share of the search's epochs that are done, 0 to 1.
        """


regularizers: Registry[Regularizer] = Registry("regularizers", Regularizer, given=("model",))


def ops_that(model: Model, reads: type[Readable]) -> list[Readable]:
    """The mixed ops of a model, each of which must be what a regularizer reads.

    Raises:
        UnsupportedError: One of them is something else, or there is none.
    """
    wanted = described(reads)
    ops = model.mixed_ops.items()
    if not ops:
        raise UnsupportedError(f"regularizer: the model must have {wanted}, but has no mixed op")
    for choice_id, op in ops:
        if not isinstance(op, reads):
            raise UnsupportedError(
                f"regularizer: choice `{choice_id}` must have {wanted}, but has a {type(op).__name__}; "
                "build the supernet with one, or leave the regularizer out"
            )
    return [op for _, op in ops if isinstance(op, reads)]


def described(reads: type) -> str:
    """What its docstring says first, such as ``a mixed op with logits, …``."""
    first = " ".join((reads.__doc__ or reads.__name__).split("\n\n")[0].split()).rstrip(".")
    return first[:1].lower() + first[1:]


@final
class Regularized(AroundObjective):
    """Lets alphas minimize regularizers too, besides all that they minimize already.

    Args:
        objective: Loss, metrics and penalty.
        model: The supernet; only read.
        terms: By name.
    """

    def __init__(self, objective: Objective, model: Model, terms: Sequence[tuple[str, Regularizer]]) -> None:
        super().__init__(objective)
        self._model, self._terms = model, tuple(terms)

    def penalty(self, loss: torch.Tensor) -> torch.Tensor | None:
        total = super().penalty(loss)
        for _, term in self._terms:
            value = term(self._model.progress)
            total = value if total is None else total + value
        return total

    @torch.no_grad()
    def figures(self) -> Mapping[str, float]:
        """Each term as it is now, by name; those of one name added up."""
        found: dict[str, float] = {}
        for name, term in self._terms:
            found[name] = found.get(name, 0.0) + float(term(self._model.progress))
        return found
