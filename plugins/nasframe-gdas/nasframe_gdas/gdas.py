"""The mixed op of GDAS."""

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch

from nasframe.core import ALPHA, ArchParam, Candidate, Choice, Kind, MixedOp, mixed_ops
from nasframe.types import NonNegativeFloat, PositiveFloat


@mixed_ops.register("gdas")
@final
class Gdas(MixedOp):
    """Runs one candidate, drawn with Gumbel noise, and differentiates through its soft weight.

    With p = softmax(alpha), Gumbel noise o and temperature τ, the soft weights are
    h = softmax((log p + o) / τ). Forward, the candidate k with the largest h runs alone and unscaled.
    Backward, its factor of 1 has the gradient of h_k, so that ∂L/∂alpha_i = ⟨∂L/∂y, o_k(x)⟩ ∂h_k/∂alpha_i;
    no other candidate is computed (Dong and Yang 2019, arXiv 1910.04465, section 3.2). τ falls linearly over
    the epochs. Of a choice that keeps several candidates as many are drawn, without replacement.
    Evaluation draws nothing: it runs the most likely candidate that may be kept.

    Departures from the authors' code: it adds the zero weights of the other candidates to the output as
    numbers, which gives h_j of each a gradient too, the sum of ∂L/∂y; it draws once a pass for all cells
    of a kind, this once a site; it reaches the last τ in the last epoch, this at its end. With
    `darts_bilevel` the alpha step and the weight step of a pair see the same noise.

    Args:
        init_std: Standard deviation of the initial alpha, drawn around 0.
        tau_max: Temperature of the first epoch.
        tau_min: Temperature that the last epoch ends at.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)
    draws: ClassVar[bool] = True

    def __init__(
        self,
        choice: Choice,
        *,
        init_std: NonNegativeFloat = 1e-3,
        tau_max: PositiveFloat = 10.0,
        tau_min: PositiveFloat = 0.1,
    ) -> None:
        super().__init__()
        self.alpha = ArchParam(init_std * torch.randn(len(choice.candidates)), ALPHA)
        self.tau = tau_max
        self._tau_max, self._tau_min = tau_max, tau_min
        self._num_chosen = choice.num_chosen
        self._derivable = [choice.candidates.index(name) for name in choice.derivable]

    def anneal(self, progress: float) -> None:
        """Set τ for the share of the epochs that is done, 0 to 1."""
        self.tau = self._tau_max - (self._tau_max - self._tau_min) * progress

    def logits(self) -> torch.Tensor:
        """What the softmax is taken of, of shape K."""
        return self.alpha

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.alpha, dim=0)

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        gates = self._drawn() if self.training else self._most_likely()
        outputs = [gate * candidates[index](*args, **kwargs) for index, gate in gates.items()]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total

    def _drawn(self) -> dict[int, torch.Tensor]:
        """A factor of exactly 1 for each drawn candidate, with the gradient of its soft weight."""
        noise_K = -torch.empty_like(self.alpha).exponential_().log()
        noisy_K = torch.log_softmax(self.alpha, dim=0) + noise_K
        soft_K = torch.softmax(noisy_K / self.tau, dim=0)
        drawn = noisy_K.topk(self._num_chosen).indices.tolist()
        return {index: 1 + (soft_K[index] - soft_K[index].detach()) for index in drawn}

    def _most_likely(self) -> dict[int, torch.Tensor]:
        """A factor of 1 for each candidate that a genotype would keep; of equal ones the first."""
        alphas, one = self.alpha.tolist(), self.alpha.new_ones(())
        strongest = sorted(self._derivable, key=lambda index: -alphas[index])[: self._num_chosen]
        return dict.fromkeys(strongest, one)
