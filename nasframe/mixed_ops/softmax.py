"""The continuous relaxation of DARTS."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import ALPHA, ArchParam, Choice, Kind, WeightedSum, mixed_ops
from nasframe.types import NonNegativeFloat


@mixed_ops.register("softmax")
@final
class Softmax(WeightedSum):
    """Mixes all candidates by the softmax of alpha (Liu et al. 2019, arXiv 1806.09055, eq. 2).

    A candidate that is always zero takes its share of the softmax but is not computed.

    Args:
        init_std: Standard deviation of the initial alpha, drawn around 0.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)

    def __init__(self, choice: Choice, *, init_std: NonNegativeFloat = 1e-3) -> None:
        super().__init__()
        self.alpha = ArchParam(nn.init.normal_(torch.empty(len(choice.candidates)), std=init_std), ALPHA)

    def logits(self) -> torch.Tensor:
        return self.alpha

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.alpha, dim=0)

    def mixture(self) -> torch.Tensor:
        return self.weights()
