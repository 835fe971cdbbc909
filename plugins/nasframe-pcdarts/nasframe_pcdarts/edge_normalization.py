"""Softmax weights of candidates, and of a node's inputs."""

from typing import ClassVar, Final, final

import torch

from nasframe.core import ALPHA, ArchParam, Choice, InputChoice, Kind, Level, WeightedSum, mixed_ops
from nasframe.types import NonNegativeFloat

BETA: Final = Kind("beta", Level.UPPER)
"""What weighs the inputs of a node."""


@mixed_ops.register("pcdarts")
@final
class EdgeNormalized(WeightedSum):
    """Mixes candidates by softmax(alpha), and inputs by softmax(beta) (Xu et al. 2020, eq. 3).

    Goes with the space `pcdarts`, whose nodes weigh their inputs. A candidate that is always zero takes
    its share but is not computed.

    Args:
        init_std: Standard deviation of the initial alpha and beta, drawn around 0.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA, BETA)

    def __init__(self, choice: Choice, *, init_std: NonNegativeFloat = 1e-3) -> None:
        super().__init__()
        kind = BETA if isinstance(choice, InputChoice) else ALPHA
        self.alpha = ArchParam(init_std * torch.randn(len(choice.candidates)), kind)

    def logits(self) -> torch.Tensor:
        """What the softmax is taken of, of shape K."""
        return self.alpha

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.alpha, dim=0)

    def mixture(self) -> torch.Tensor:
        return self.weights()
