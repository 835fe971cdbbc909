"""Schedules of the learning rate over a stage."""

import math
from typing import final

from nasframe.core import Schedule, schedules
from nasframe.types import NonNegativeFloat, NonNegativeInt


@schedules.register("cosine")
@final
class Cosine(Schedule):
    """Half a cosine from the base learning rate to a last one (Loshchilov and Hutter 2017, eq. 5).

    Args:
        min_lr: The learning rate that the curve ends at.
        warmup_epochs: Epochs of a linear rise from 0 before the curve; the rise moves every step.
        each_step: Move every step instead of every epoch.
    """

    def __init__(
        self, *, min_lr: NonNegativeFloat = 0.0, warmup_epochs: NonNegativeInt = 0, each_step: bool = False
    ) -> None:
        self._min_lr, self._warmup_epochs, self._each_step = min_lr, warmup_epochs, each_step

    def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
        if epoch < self._warmup_epochs:
            return base_lr * epoch / self._warmup_epochs
        moment = epoch if self._each_step else math.floor(epoch)
        progress = (moment - self._warmup_epochs) / max(1, num_epochs - self._warmup_epochs)
        return self._min_lr + (base_lr - self._min_lr) * (1 + math.cos(math.pi * progress)) / 2
