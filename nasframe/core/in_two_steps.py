"""Layers that can share what they make of their input first."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import cached_property
from typing import final

import torch

from nasframe.errors import ComponentError


@final
class OutputGradient:
    """The gradient of a site's output, and what products with it share; without a graph.

    Args:
        where: Of the site, for messages.
        gradient_BCHW: The gradient.
        dtype: Of the products.
    """

    def __init__(self, where: str, gradient_BCHW: torch.Tensor, dtype: torch.dtype) -> None:
        self.values_BCHW, self.dtype = gradient_BCHW.detach(), dtype
        self._where = where
        self._of_input: tuple[torch.Tensor, torch.Tensor] | None = None

    @cached_property
    def total_C(self) -> torch.Tensor:
        """The sum of each channel."""
        return self.values_BCHW.sum((0, 2, 3))

    def times(self, output: torch.Tensor) -> torch.Tensor:
        """The inner product with an output.

        Raises:
            ComponentError: The output has another shape.
        """
        self.require_shape(output.shape)
        return (self.values_BCHW.to(self.dtype) * output.to(self.dtype)).sum()

    def times_input(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The inner product with the input of the site, which is computed once."""
        if self._of_input is None or self._of_input[0] is not x_BCHW:
            self._of_input = x_BCHW, self.times(x_BCHW)
        return self._of_input[1]

    def require_shape(self, shape: torch.Size) -> None:
        """Refuse outputs of another shape.

        Raises:
            ComponentError: It is another one.
        """
        if shape != self.values_BCHW.shape:
            raise ComponentError(
                f"{self._where}: candidates must return tensors of the same shapes, got "
                f"{tuple(self.values_BCHW.shape)} of one and {tuple(shape)} of another; change the space"
            )


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

    def inner_product(
        self, made: torch.Tensor, x_BCHW: torch.Tensor, gradient: OutputGradient
    ) -> torch.Tensor:
        """The product of the output and its gradient, for which a layer need not make the output.

        Args:
            made: By the first step.
            x_BCHW: The input.
            gradient: Of the output.

        Raises:
            ComponentError: The output has another shape.
        """
        return gradient.times(self.second_step(made, x_BCHW))
