"""Softmax weights of candidates, and of a node's inputs."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, final

import torch

from nasframe.core import (
    ALPHA,
    ArchParam,
    Candidate,
    Choice,
    InputChoice,
    Kind,
    Level,
    MixedOp,
    is_zero,
    mixed_ops,
)
from nasframe.types import NonNegativeFloat

BETA: Final = Kind("beta", Level.UPPER)
"""What weighs the inputs of a node."""


@mixed_ops.register("pcdarts")
@final
class EdgeNormalized(MixedOp):
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
        self.logits = ArchParam(init_std * torch.randn(len(choice.candidates)), kind)

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.logits, dim=0)

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        weights = self.weights()
        computed = [index for index, candidate in enumerate(candidates) if not is_zero(candidate)]
        if not computed:
            return candidates[0](*args, **kwargs)
        total = weights[computed[0]] * candidates[computed[0]](*args, **kwargs)
        for index in computed[1:]:
            total = total + weights[index] * candidates[index](*args, **kwargs)
        return total
