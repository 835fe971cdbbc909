"""A learning rate that stays."""

from typing import final

from nasframe.core import Schedule, schedules


@schedules.register("constant")
@final
class Constant(Schedule):
    """The base learning rate all along."""

    def __init__(self) -> None: ...

    def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
        return base_lr
