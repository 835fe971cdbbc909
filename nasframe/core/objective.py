"""Objectives: a loss and its metrics."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from nasframe.registry import Registry
from nasframe.types import Metrics


class Objective(ABC):
    """What is minimized, and what is reported; the same in search, validation and retraining."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        """The mean over the batch, a scalar, of whatever the model returned (auxiliary outputs too).

        It must be a mean, so that chunks of a batch can be put together by their sizes.
        """

    @abstractmethod
    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        """Means over the batch by name, such as ``accuracy``; never the loss itself."""

    def penalty(self) -> torch.Tensor | None:
        """What steps of the alphas minimize besides the loss, a scalar of upper-level parameters alone.

        It is no part of `loss`, so that losses stay comparable. None for nothing, as most have.
        """
        return None


def with_penalty(
    objective: Objective, alphas: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    """Gradients of the loss in `alphas` and of the objective's penalty, added up.

    An algorithm that declares `follows_penalty` passes the gradients of its alphas through this.

    Args:
        objective: May have a penalty.
        alphas: Upper-level parameters that require gradients.
        gradients: One for each of them; None where the loss does not depend on it.
    """
    penalty = objective.penalty()
    if penalty is None or not penalty.requires_grad:
        return list(gradients)
    own: Sequence[torch.Tensor | None] = torch.autograd.grad(penalty, alphas, allow_unused=True)
    pairs = zip(gradients, own, strict=True)
    return [one if other is None else other if one is None else one + other for one, other in pairs]


objectives: Registry[Objective] = Registry("objectives", Objective)
