"""Task: what a network is for."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Task:
    """What goes into a network and what comes out.

    Attributes:
        input_shape: Shape of one input, without the batch; images are (channels, height, width).
        num_outputs: Length of the output, such as the number of classes.
        vocabulary: Where inputs are tokens, how many there are: they are whole numbers below it.
    """

    input_shape: tuple[int, ...] = (3, 32, 32)
    num_outputs: int = 10
    vocabulary: int | None = None

    def blank(self, num: int, *, device: torch.device | str | None = None) -> torch.Tensor:
        """A batch of inputs that are all zero."""
        dtype = torch.get_default_dtype() if self.vocabulary is None else torch.int64
        return torch.zeros(num, *self.input_shape, dtype=dtype, device=device)
