"""The adversarial perturbation of SDARTS."""

from collections.abc import Callable
from typing import final

import torch

from nasframe.core import Mixtures, Perturbation, perturbations, projected
from nasframe.types import NonNegativeFloat, PositiveInt


@perturbations.register("adversarial")
@final
class AdversarialPerturbation(Perturbation):
    """Moves shares by up to ε to where the loss is worst (SDARTS-ADV: Chen and Hsieh 2020, arXiv 2002.05283).

    Projected gradient ascent: from a random start in the box of ±ε, steps of 2ε / steps along
    the sign of the gradient, each followed by a projection to the box, to shares that are not negative, and
    to the sum that they had. If the loss is no higher there than without, nothing is moved. ε grows linearly
    over the epochs. Each step costs a forward and a backward pass.

    Departures from the authors' code: batch norms normalize by the batch, as in the step itself, where that
    takes running statistics.

    Args:
        epsilon_min: ε of the first epoch.
        epsilon_max: ε that the last epoch ends at.
        steps: Of the ascent.
    """

    def __init__(
        self,
        *,
        epsilon_min: NonNegativeFloat = 0.03,
        epsilon_max: NonNegativeFloat = 0.3,
        steps: PositiveInt = 7,
    ) -> None:
        self._epsilon_min, self._epsilon_max, self._steps = epsilon_min, epsilon_max, steps

    def __call__(
        self, mixtures: Mixtures, loss: Callable[[Mixtures], torch.Tensor], progress: float
    ) -> Mixtures:
        epsilon = self._epsilon_min + (self._epsilon_max - self._epsilon_min) * progress
        noise = {name: torch.empty_like(each).uniform_(-epsilon, epsilon) for name, each in mixtures.items()}
        moved = {name: projected(each + noise[name], each) for name, each in mixtures.items()}
        for _ in range(self._steps):
            leaves = {name: each.detach().requires_grad_() for name, each in moved.items()}
            gradients = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True)
            for (name, each), gradient in zip(mixtures.items(), gradients, strict=True):
                if gradient is not None:
                    step = moved[name] + 2 * epsilon / self._steps * gradient.sign()
                    moved[name] = projected(each + (step - each).clamp(-epsilon, epsilon), each)
        with torch.no_grad():
            return moved if loss(moved) > loss(mixtures) else mixtures
