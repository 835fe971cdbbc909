"""Optimizers and learning-rate schedules by name."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

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


def _step_of(kind: type[torch.optim.Optimizer]) -> Callable[..., Any]:
    """The step of a class of PyTorch's; its fused kernels get gradients that lie as the weights do.

    They take that for granted, and step wrongly where it is not so.
    """
    step = inspect.unwrap(kind.step)

    @torch.no_grad()
    def laid_out_step(self: torch.optim.Optimizer, closure: Callable[[], float] | None = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"] if group["fused"] else ():
                if weight.grad is not None and weight.grad.stride() != weight.stride():
                    weight.grad = torch.empty_like(weight).copy_(weight.grad)
        return step(self, closure)

    return laid_out_step


@final
class SGD(_Eager, torch.optim.SGD):
    """``torch.optim.SGD``, which does not wait for PyTorch's compiler to be imported."""

    step = _step_of(torch.optim.SGD)


@final
class Adam(_Eager, torch.optim.Adam):
    """``torch.optim.Adam``, likewise."""

    step = _step_of(torch.optim.Adam)


@final
class AdamW(_Eager, torch.optim.AdamW):
    """``torch.optim.AdamW``, likewise."""

    step = _step_of(torch.optim.AdamW)


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
