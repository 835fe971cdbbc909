"""Adam and AdamW; all parameters in one call (decision 0025)."""

from collections.abc import Iterable

import torch

from nasframe.core import optimizers
from nasframe.core.optimizer import Adam, AdamW
from nasframe.types import NonNegativeFloat, PositiveFloat, ProperFraction


@optimizers.register("adam")
def adam(
    params: Iterable[torch.Tensor],
    *,
    lr: PositiveFloat = 1e-3,
    betas: tuple[ProperFraction, ProperFraction] = (0.9, 0.999),
    eps: NonNegativeFloat = 1e-8,
    weight_decay: NonNegativeFloat = 0.0,
    fused: bool = False,
) -> torch.optim.Adam:
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay rates of the averages of the gradient and of its square.
        eps: Added to the denominator.
        weight_decay: Factor of the parameters that is added to their gradient.
        fused: Step by PyTorch's fused kernels, which are faster and round otherwise: last bits differ.
    """
    return Adam(
        params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=not fused, fused=fused
    )


@optimizers.register("adamw")
def adamw(
    params: Iterable[torch.Tensor],
    *,
    lr: PositiveFloat = 1e-3,
    betas: tuple[ProperFraction, ProperFraction] = (0.9, 0.999),
    eps: NonNegativeFloat = 1e-8,
    weight_decay: NonNegativeFloat = 1e-2,
    fused: bool = False,
) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay rates of the averages of the gradient and of its square.
        eps: Added to the denominator.
        weight_decay: Share of the parameters, times the learning rate, that each step takes away.
        fused: Step by PyTorch's fused kernels, which are faster and round otherwise: last bits differ.
    """
    return AdamW(
        params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=not fused, fused=fused
    )
