"""A price in proportion to the cost."""

from typing import final

import torch

from nasframe.core import CostScale, Penalty, penalties
from nasframe.types import NonNegativeFloat


@penalties.register("linear")
@final
class Linear(Penalty):
    """Adds weight × E[cost] / average to the loss (Cai et al. 2019, arXiv 1812.00332, section 3.3.1).

    The average is the expected cost at equal weights of all candidates, so that `weight` means the same
    for multiply-adds and milliseconds. It takes the place of the reference in the authors' code
    (`add#linear`), which subtracts it as well: that changes no gradient.

    Args:
        weight: How much the cost counts; 0 for not at all, so that it is only recorded.
    """

    def __init__(self, scale: CostScale, *, weight: NonNegativeFloat = 0.1) -> None:
        self._scale = weight / (scale.average or 1.0)

    def __call__(self, loss: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
        return loss + self._scale * cost
