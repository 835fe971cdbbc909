"""The random perturbation of SDARTS."""

from collections.abc import Callable
from typing import final

import torch

from nasframe.core import Mixtures, Perturbation, perturbations, projected
from nasframe.types import NonNegativeFloat


@perturbations.register("random")
@final
class RandomPerturbation(Perturbation):
    """Adds noise from U(−ε, ε) to each share (SDARTS-RS: Chen and Hsieh 2020, arXiv 2002.05283).

    Shares that become negative are 0, and all are then scaled to the sum that they had, as in the authors'
    code. ε grows linearly over the epochs. Weights that are trained so suit the mixtures around the present
    one as well, among them those that an architecture is derived to.

    Args:
        epsilon_min: ε of the first epoch.
        epsilon_max: ε that the last epoch ends at.
    """

    def __init__(self, *, epsilon_min: NonNegativeFloat = 0.03, epsilon_max: NonNegativeFloat = 0.3) -> None:
        self._epsilon_min, self._epsilon_max = epsilon_min, epsilon_max

    def __call__(
        self, mixtures: Mixtures, loss: Callable[[Mixtures], torch.Tensor], progress: float
    ) -> Mixtures:
        epsilon = self._epsilon_min + (self._epsilon_max - self._epsilon_min) * progress
        return {
            name: projected(shares_K + torch.empty_like(shares_K).uniform_(-epsilon, epsilon), shares_K)
            for name, shares_K in mixtures.items()
        }
