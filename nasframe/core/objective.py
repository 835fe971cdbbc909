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

    def penalty(self, loss: torch.Tensor) -> torch.Tensor | None:
        """What steps of the alphas minimize besides the loss, a scalar.

        It is no part of `loss`, so that losses stay comparable. None for nothing, as most have.

        Args:
            loss: That of the batch of the step, which a penalty may scale; besides it a penalty may
                depend on upper-level parameters alone.
        """
        return None

    def probabilities(self, outputs: Any) -> torch.Tensor | None:
        """The probability of each class, B K, by a model's outputs; None where they are not of classes."""
        return None

    def numbers(self, outputs: Any) -> torch.Tensor | None:
        """The numbers that a model's outputs predict, B K, on the scale of the targets; None without any."""
        return None

    def constant_outputs(self, targets: Any) -> Any:
        """What a model would best return that cannot tell one input from another.

        Whoever is not better has learned nothing. None, as here, where nobody can say.

        Args:
            targets: Of all examples.
        """
        return None


def with_penalty(
    objective: Objective,
    alphas: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    loss: torch.Tensor,
) -> list[torch.Tensor | None]:
    """Gradients of the loss in `alphas` and of the objective's penalty P(loss, alphas), added up.

    That is (1 + ∂P/∂loss) ∇loss + ∇P.

    An algorithm that declares `follows_penalty` passes the gradients of its alphas through this.

    Args:
        objective: May have a penalty.
        alphas: Upper-level parameters that require gradients.
        gradients: One of the loss for each of them; None where the loss does not depend on it.
        loss: The loss itself, of the batch that the gradients are of.
    """
    loss = loss.detach().requires_grad_()
    penalty = objective.penalty(loss)
    if penalty is None or not penalty.requires_grad:
        return list(gradients)
    found: Sequence[torch.Tensor | None] = torch.autograd.grad(penalty, [loss, *alphas], allow_unused=True)
    scale = 1 if found[0] is None else 1 + found[0]
    scaled = [None if gradient is None else scale * gradient for gradient in gradients]
    pairs = zip(scaled, found[1:], strict=True)
    return [one if other is None else other if one is None else one + other for one, other in pairs]


objectives: Registry[Objective] = Registry("objectives", Objective)
