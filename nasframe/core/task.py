"""Task: what a network is for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What goes into a network and what comes out.

    Attributes:
        input_shape: Shape of one input, without the batch; images are (channels, height, width).
        num_outputs: Length of the output, such as the number of classes.
    """

    input_shape: tuple[int, ...] = (3, 32, 32)
    num_outputs: int = 10
