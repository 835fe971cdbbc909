"""Costs: what a network costs, by name."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

from torch import nn

from nasframe.core.model import Model
from nasframe.core.task import Task
from nasframe.errors import UnsupportedError
from nasframe.registry import Registry

COUNT_UNITS: Final[Mapping[str, float]] = MappingProxyType({"k": 1e3, "M": 1e6, "G": 1e9})
"""The units of a cost that is a number of things."""


class Cost(ABC):
    """A figure of a network that is better small.

    Attributes:
        is_measured: Whether telling it takes running the network on a device.
        units: What a unit is worth in the figures of `of`, by the name that a recipe may give it, such
            as ``{"ms": 1.0, "s": 1e3}`` for milliseconds.
    """

    is_measured: ClassVar[bool] = False
    units: ClassVar[Mapping[str, float]] = MappingProxyType({})

    @abstractmethod
    def of(self, model: Model, task: Task) -> float:
        """The cost of a derived network, for one input."""

    def of_each(self, models: Sequence[Model], task: Task) -> list[float]:
        """The costs of several networks; one that is measured lets them take turns, so that they compare."""
        return [self.of(model, task) for model in models]

    def of_call(self, module: nn.Module, *args: Any, **kwargs: Any) -> float:
        """The cost of one call of a part of a network, where that of the whole is the sum of its parts'.

        Args:
            module: On the meta device and in evaluation mode, so that its shapes alone are known.
            args: What it is called with, on the meta device too, with a batch of one.
            kwargs: Likewise.

        Raises:
            UnsupportedError: The cost is no sum over parts; that is so unless a cost overrides this.
        """
        raise UnsupportedError(
            f"cost {type(self).__name__}: must be a sum over the parts of a network to be expected over "
            "architectures; choose another cost"
        )


costs: Registry[Cost] = Registry("costs", Cost)


def unit_of(units: Mapping[str, float]) -> str:
    """The unit of a cost's figures, such as ``ms``, from `Cost.units`; empty where it has no name."""
    return next((name for name, worth in units.items() if worth == 1), "")


def on_meta(module: nn.Module) -> nn.Module:
    """A copy on the meta device, in evaluation mode; no weight is copied, shared ones stay shared."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        for parameter in module.parameters()
    }
    memo |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    return copy.deepcopy(module, memo).eval()
