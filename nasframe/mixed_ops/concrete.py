"""The concrete relaxation of SNAS."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import ALPHA, ArchParam, Choice, Kind, NoisySum, mixed_ops
from nasframe.types import NonNegativeFloat, PositiveFloat


@mixed_ops.register("concrete")
@final
class Concrete(NoisySum):
    """Mixes all candidates by a draw that is nearly one-hot (Xie et al. 2019, arXiv 1812.09926).

    With p = softmax(alpha), Gumbel noise G and temperature τ the mixture is softmax((log p + G) / τ), and
    alphas follow its pathwise gradient. One draw for each choice and training pass, shared by the choice's
    sites. τ falls linearly over the epochs. In evaluation there is no noise.

    Departures from the paper: alphas and weights take turns, where it trains both by one loss on the
    training data; no constraint on resources but by `search.cost`. The
    paper does not say its temperatures; these are those of the command in the authors' code.

    Args:
        init_std: Standard deviation of the initial alpha, drawn around 0.
        tau_max: Temperature of the first epoch.
        tau_min: Temperature that the last epoch ends at.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)
    noise: torch.Tensor

    def __init__(
        self,
        choice: Choice,
        *,
        init_std: NonNegativeFloat = 1e-3,
        tau_max: PositiveFloat = 1.0,
        tau_min: PositiveFloat = 0.03,
    ) -> None:
        super().__init__()
        self.alpha = ArchParam(nn.init.normal_(torch.empty(len(choice.candidates)), std=init_std), ALPHA)
        self.tau = tau_max
        self._tau_max, self._tau_min = tau_max, tau_min
        self.register_buffer("noise", torch.zeros(len(choice.candidates)), persistent=False)
        self.draw_noise()

    def anneal(self, progress: float) -> None:
        """Set τ for the share of the epochs that is done, 0 to 1."""
        self.tau = self._tau_max - (self._tau_max - self._tau_min) * progress

    def logits(self) -> torch.Tensor:
        return self.alpha

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.alpha, dim=0)

    def draw_noise(self) -> None:
        self.noise = -torch.empty_like(self.alpha, requires_grad=False).exponential_().log()

    def mixture(self) -> torch.Tensor:
        log_p_K = torch.log_softmax(self.alpha, dim=0)
        return torch.softmax((log_p_K + self.noise if self.training else log_p_K) / self.tau, dim=0)
