"""Shares by which examples are mixed."""

from typing import final

import torch

from nasframe.core import Batch
from nasframe.errors import UnsupportedError

_QUANTILES = 4096


@final
class Shares:
    """Draws from Beta(α, α): one of 4,096 equally likely quantiles, so that any device draws alike.

    Args:
        alpha: Near 0 one example has nearly all; at 1 all shares are equally likely.
    """

    def __init__(self, alpha: float) -> None:
        from scipy.special import betaincinv  # which is slow to import

        middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
        self._quantiles = torch.from_numpy(betaincinv(alpha, alpha, middles.numpy())).float()

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Shares of shape B."""
        self._quantiles = self._quantiles.to(generator.device)
        drawn = torch.randint(_QUANTILES, (count,), generator=generator, device=generator.device)
        return self._quantiles[drawn]


def partners(count: int, generator: torch.Generator) -> torch.Tensor:
    """Who each example is mixed with, of shape B: a random permutation."""
    return torch.randperm(count, generator=generator, device=generator.device)


def mixed_targets(
    batch: Batch, partner_B: torch.Tensor, share_B: torch.Tensor, augmentation: str
) -> torch.Tensor:
    """The sum of each example's target and its partner's, by the share of the first and what is left.

    Raises:
        UnsupportedError: The targets cannot be added up.
    """
    targets = batch.targets
    if not isinstance(targets, torch.Tensor) or not targets.is_floating_point():
        got = targets.dtype if isinstance(targets, torch.Tensor) else type(targets).__name__
        raise UnsupportedError(
            f"augmentation `{augmentation}`: targets must be class labels or numbers, which can be mixed, "
            f"got {got}; leave it out of the recipe's `augment` for this data"
        )
    share = share_B.to(targets.dtype).view(-1, *[1] * (targets.dim() - 1))
    return share * targets + (1 - share) * targets[partner_B]
