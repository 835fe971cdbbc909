"""The independent candidates of FairDARTS."""

from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import ALPHA, ArchParam, Choice, Kind, WeightedSum, mixed_ops
from nasframe.types import NonNegativeFloat


@mixed_ops.register("sigmoid")
@final
class Sigmoid(WeightedSum):
    """Mixes all candidates by σ(alpha), each for itself (Chu et al. 2020, arXiv 1911.12126).

    Candidates do not compete: any number of them may be near 1, or near 0. Their weights do not add up
    to 1. It goes with the regularizer `zero_one` and the deriver `threshold`, and needs no ``none``.

    Args:
        init_std: Standard deviation of the initial alpha, drawn around 0, where each weight is a half.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)

    def __init__(self, choice: Choice, *, init_std: NonNegativeFloat = 1e-3) -> None:
        super().__init__()
        self.alpha = ArchParam(nn.init.normal_(torch.empty(len(choice.candidates)), std=init_std), ALPHA)

    def gates(self) -> torch.Tensor:
        return torch.sigmoid(self.alpha)

    def weights(self) -> torch.Tensor:
        return self.gates()

    def mixture(self) -> torch.Tensor:
        return self.gates()
