"""Optimizers and learning-rate schedules by name."""

import inspect
from abc import ABC, abstractmethod
from typing import final

import torch

from nasframe.registry import Registry

optimizers: Registry[torch.optim.Optimizer] = Registry("optimizers", torch.optim.Optimizer, given=("params",))


class _Eager(torch.optim.Optimizer):
    """PyTorch's methods without what guards them against being compiled (decision 0033).

    The guards import the compiler at their first call, which takes as long as PyTorch itself.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


@final
class SGD(_Eager, torch.optim.SGD):
    """``torch.optim.SGD``, which does not wait for PyTorch's compiler to be imported."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


@final
class Adam(_Eager, torch.optim.Adam):
    """``torch.optim.Adam``, likewise."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


@final
class AdamW(_Eager, torch.optim.AdamW):
    """``torch.optim.AdamW``, likewise."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


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
