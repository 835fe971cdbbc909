"""Stochastic gradient descent; all parameters in one call (decision 0025)."""

from collections.abc import Iterable

import torch

from nasframe.core import optimizers
from nasframe.core.optimizer import SGD
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeFloat, PositiveFloat, ProperFraction


@optimizers.register("sgd")
def sgd(
    params: Iterable[torch.Tensor],
    *,
    lr: PositiveFloat = 0.025,
    momentum: ProperFraction = 0.9,
    weight_decay: NonNegativeFloat = 3e-4,
    nesterov: bool = False,
    dampening: ProperFraction = 0.0,
    fused: bool = False,
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum; the defaults are those of Liu et al. 2019.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Decay rate of the average of the gradients.
        weight_decay: Factor of the weights that is added to their gradient.
        nesterov: Nesterov's momentum; needs momentum, and no dampening.
        dampening: Share of each gradient that does not enter the momentum.
        fused: Step by PyTorch's fused kernels, which are faster and round otherwise: last bits differ.

    Raises:
        UnsupportedError: `nesterov` without momentum, or with dampening.
    """
    if nesterov and (momentum == 0 or dampening != 0):
        raise UnsupportedError(
            f"sgd: nesterov must have momentum and no dampening, got momentum {momentum} and "
            f"dampening {dampening}; change them, or leave nesterov out"
        )
    return SGD(
        params,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        dampening=dampening,
        foreach=not fused,
        fused=fused,
    )
