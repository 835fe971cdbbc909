"""What exporters share: a file must compute what the network computes, or it is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasframe.core import tensors_of
from nasframe.errors import UnsupportedError

_TOLERANCE = 1e-4
"""Of the largest output; rounding alone stays far below it."""


def several(inputs: torch.Tensor) -> torch.Tensor:
    """The inputs; one of them twice, for a batch of one would be taken for a batch that is always one."""
    return inputs if len(inputs) > 1 else torch.cat([inputs, inputs])


def untraceable(format_: str, error: Exception) -> UnsupportedError:
    """What is told of a network that a format's tracer cannot follow."""
    return UnsupportedError(
        f"{format_}: the network cannot be traced: {type(error).__name__}: {error}; "
        "its forward must not depend on values of tensors"
    )


def check(
    format_: str, path: Path, network: nn.Module, loaded: Callable[[torch.Tensor], Any], inputs: torch.Tensor
) -> None:
    """Compare what was written with the network, on all inputs and on the first alone.

    Raises:
        UnsupportedError: They differ by more than rounding; the file is removed.
    """
    for part in (inputs, inputs[:1]):
        with torch.no_grad():
            expected, actual = _flat(network(part)), _flat(loaded(part))
        difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
        if not difference <= _TOLERANCE:
            path.unlink()
            raise UnsupportedError(
                f"{format_}: {path} must compute what the network computes, but is off by "
                f"{difference:.2g} of the largest output, more than {_TOLERANCE:g}"
            )


def _flat(outputs: Any) -> torch.Tensor:
    """All values of a nest of tensors in a row."""
    return torch.cat([tensor.double().flatten() for tensor in tensors_of(outputs)])
