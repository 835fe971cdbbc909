"""The penalty of ProxylessNAS's code, which multiplies the loss."""

import math
from typing import final

import torch

from nasframe.core import CostScale, Penalty, penalties, read_amount
from nasframe.errors import UnsupportedError
from nasframe.types import Amount, PositiveFloat


@penalties.register("mul_log")
@final
class MulLog(Penalty):
    """alpha × loss × (log E[cost] / log reference)^beta, the authors' `mul#log`.

    As in ``add_regularization_loss`` of the code beside Cai et al. 2019 (arXiv 1812.00332), with the
    defaults of its search script. The logarithms are of figures in the cost's own unit, so the formula
    means another thing in another unit; below 1 it would turn round, and such costs are refused.
    Departures: `reference` is given, where the code has a table of the authors' devices; with REINFORCE,
    for which the code has another formula, the factor scales the reward's gradient, and the loss
    is the mean over the networks that were sampled.

    Args:
        reference: Where the factor is alpha; a number in the cost's unit, or text such as ``80 ms``.
        alpha: A constant factor.
        beta: How steeply the factor rises.
    """

    def __init__(
        self,
        scale: CostScale,
        *,
        reference: Amount,
        alpha: PositiveFloat = 0.2,
        beta: PositiveFloat = 0.3,
    ) -> None:
        level = read_amount(reference, scale.units)
        if min(level, scale.cheapest) <= 1:
            raise UnsupportedError(
                "penalty mul_log: reference and cheapest architecture must cost more than 1, got "
                f"{level:g} and {scale.cheapest:g}; choose the penalty linear or budget"
            )
        self._log_reference, self._alpha, self._beta = math.log(level), alpha, beta

    def __call__(self, loss: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        return self._alpha * loss * (cost.log() / self._log_reference) ** self._beta
