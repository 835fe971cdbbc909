"""Layers that can share what they make of their input first."""

from abc import ABC, abstractmethod
from collections.abc import Hashable

import torch


class InTwoSteps(ABC):
    """A layer whose first step has no parameters, so that layers that read one input can share it.

    Where its class is also a module, ``second_step(first_step(x), x)`` is its ``forward``, and neither step
    writes into what it reads. A module that somebody watches (`is_watched`) is called whole.
    """

    @abstractmethod
    def sharing_key(self) -> Hashable:
        """Layers of equal keys have the same first step."""

    @abstractmethod
    def first_step(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """What can be shared."""

    @abstractmethod
    def second_step(self, made: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The output, from the input and what the first step made of it."""
