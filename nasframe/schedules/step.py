"""A learning rate that falls in steps."""

from typing import final

from nasframe.core import Schedule, schedules
from nasframe.types import NonNegativeInt, PositiveFloat


@schedules.register("step")
@final
class Step(Schedule):
    """Multiplies the learning rate at given epochs.

    Args:
        milestones: Epochs at which it is multiplied.
        factor: By what.
    """

    def __init__(self, *, milestones: tuple[NonNegativeInt, ...] = (), factor: PositiveFloat = 0.1) -> None:
        self._milestones, self._factor = milestones, factor

    def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
        return base_lr * float(self._factor ** sum(epoch >= milestone for milestone in self._milestones))
