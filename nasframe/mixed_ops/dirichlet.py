"""The Dirichlet mixtures of DrNAS."""

from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.distributions import Dirichlet

from nasframe.core import ALPHA, ArchParam, Choice, Kind, NoisySum, mixed_ops
from nasframe.types import NonNegativeFloat


@mixed_ops.register("dirichlet")
@final
class DirichletMixture(NoisySum):
    """Mixes all candidates by a draw of Dirichlet(elu(alpha) + 1) (Chen et al. 2021, arXiv 2006.10355).

    Alphas follow the pathwise gradient of the draw. One draw for each choice and training pass, shared by the
    choice's sites, as in the authors' code. It goes with the regularizer `dirichlet_anchor`.

    Weights are the mean β / Σβ, β = elu(alpha) + 1. Departures from the authors' code: an architecture is
    derived by them, where that takes the softmax of alpha, which orders the candidates of a choice alike;
    evaluation mixes by them, where that draws too. The progressive scheme is that of `search.stages`.

    Args:
        init_std: Standard deviation of the initial alpha, drawn around 0, where β is 1 and all mixtures are
            equally probable.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)
    drawn: torch.Tensor

    def __init__(self, choice: Choice, *, init_std: NonNegativeFloat = 1e-3) -> None:
        super().__init__()
        self.alpha = ArchParam(nn.init.normal_(torch.empty(len(choice.candidates)), std=init_std), ALPHA)
        self.register_buffer("drawn", torch.zeros(len(choice.candidates)), persistent=False)
        self.draw_noise()

    def concentration(self) -> torch.Tensor:
        """β = elu(alpha) + 1, of shape K, which does not round to 0 for small alphas."""
        return torch.where(self.alpha > 0, self.alpha + 1, self.alpha.clamp(max=0).exp())

    def weights(self) -> torch.Tensor:
        concentration_K = self.concentration()
        return concentration_K / concentration_K.sum()

    def draw_noise(self) -> None:
        with torch.no_grad():
            self.drawn = Dirichlet(self.concentration(), validate_args=False).sample()

    def mixture(self) -> torch.Tensor:
        if not self.training:
            return self.weights()
        shares_K: torch.Tensor = _Reparametrized.apply(self.concentration(), self.drawn)  # type: ignore[no-untyped-call]
        return shares_K


class _Reparametrized(torch.autograd.Function):
    """A draw that is there already, with the gradient that ``Dirichlet.rsample`` gives it.

    That one draws in its own forward pass, and so once for each site.
    """

    @staticmethod
    def forward(ctx: Any, concentration_K: torch.Tensor, drawn_K: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(concentration_K, drawn_K)
        return drawn_K.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_shares_K: torch.Tensor) -> tuple[torch.Tensor, None]:
        concentration_K, drawn_K = ctx.saved_tensors
        total_K = concentration_K.sum().expand_as(concentration_K)
        # what each share does to its own concentration; it takes from all others in proportion
        own_K = torch._dirichlet_grad(drawn_K, concentration_K, total_K)
        return own_K * (of_shares_K - (drawn_K * of_shares_K).sum()), None
