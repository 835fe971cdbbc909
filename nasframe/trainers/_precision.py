"""What forward passes compute in."""

from typing import Literal, TypeAlias

import torch

from nasframe.core import Algorithm, fast_precision
from nasframe.core.ranks import shared
from nasframe.errors import UnsupportedError

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


def check_precision(precision: Precision, algorithm: Algorithm) -> None:
    """Refuse a precision in which the algorithm would compute nonsense.

    Raises:
        UnsupportedError: It takes finite differences.
    """
    if precision == "bfloat16" and algorithm.takes_differences:
        raise UnsupportedError(
            "standard: precision must be float32 or auto where the algorithm takes finite differences, "
            "got bfloat16, which rounds nearby weights to the same; change it, or let the algorithm "
            "differentiate exactly"
        )


def lower_precision(precision: Precision, device: torch.device, algorithm: Algorithm) -> torch.dtype | None:
    """What forward passes of a training are to run in; None for that of the weights."""
    if precision == "auto" and not algorithm.takes_differences:
        return shared(lambda: fast_precision(device))
    return torch.bfloat16 if precision == "bfloat16" else None
