"""Optimizers and learning-rate schedules by name."""

from abc import ABC, abstractmethod

import torch

from nasframe.registry import Registry

optimizers: Registry[torch.optim.Optimizer] = Registry("optimizers", torch.optim.Optimizer, given=("params",))


class Schedule(ABC):
    """A learning rate as a function of time; it has no state, so nothing of it is to be resumed."""

    @abstractmethod
    def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
        """The learning rate at a moment.

        Args:
            base_lr: The learning rate that the optimizer was made with.
            epoch: Epochs done, with the fraction of the current one.
            num_epochs: Epochs in all.
        """


schedules: Registry[Schedule] = Registry("schedules", Schedule)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, schedule: Schedule, epoch: float, num_epochs: int
) -> None:
    """Set the learning rate of each parameter group by a schedule."""
    for group in optimizer.param_groups:
        group["lr"] = schedule(group.setdefault("initial_lr", group["lr"]), epoch, num_epochs)
