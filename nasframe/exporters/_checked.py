"""What exporters share: a file must compute what the network computes, or it is none."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
    format_: str, path: Path, network: nn.Module, inputs: torch.Tensor, *, beside: Path | None = None
) -> float:
    """Compare what was written with the network, on all inputs and on the first alone.

    The file runs in a process of its own.

    Args:
        format_: Of the file.
        path: The file.
        network: In evaluation mode, on the CPU.
        inputs: On the CPU.
        beside: Another file that belongs to it.

    Returns:
        The largest difference of an output.

    Raises:
        UnsupportedError: The file does not run, or differs by more than rounding; what was written is
            removed.
    """
    try:
        (actual,) = run_apart(format_, [path], inputs)
        with torch.no_grad():
            expected = torch.cat([_flat(network(part)) for part in (inputs, inputs[:1])])
        if actual.shape != expected.shape:
            raise UnsupportedError(
                f"{format_}: {path} must return what the network returns, {len(expected)} numbers, "
                f"but returns {len(actual)}"
            )
        difference = float((actual - expected).abs().max())
        relative = difference / float(expected.abs().max().clamp(min=1e-12))
        if not relative <= _TOLERANCE:
            raise UnsupportedError(
                f"{format_}: {path} must compute what the network computes, but is off by "
                f"{relative:.2g} of the largest output, more than {_TOLERANCE:g}"
            )
    except UnsupportedError:
        for each in (path, beside):
            if each is not None:
                each.unlink()
        raise
    return difference


def run_apart(format_: str, paths: Sequence[Path], inputs: torch.Tensor) -> list[torch.Tensor]:
    """What files make of all inputs, and of the first alone, run in a process without nasframe.

    Args:
        format_: Of all files: ``onnx``, ``torch_export`` or ``source``.
        paths: The files.
        inputs: Given to each.

    Returns:
        All values of each file's outputs, in a row.

    Raises:
        UnsupportedError: One of them does not run; says why.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "inputs.npy", inputs.numpy())
        code = Path(__file__).with_name("_fresh.py")
        command = [
            sys.executable,
            "-B",
            "-P",
            str(code),
            format_,
            name,
            *(str(path.absolute()) for path in paths),
        ]
        # in a session of its own: an interrupt is for this process, which then ends in its own way
        ended = subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False)
        if ended.returncode != 0:
            *_, reason = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise UnsupportedError(
                f"{format_}: {paths[0]} must run in a process of its own, but does not: {reason}"
            )
        return [_values(folder / f"outputs_{index}.npz") for index in range(len(paths))]


def _values(path: Path) -> torch.Tensor:
    with np.load(path, allow_pickle=False) as arrays:
        return torch.cat([torch.from_numpy(arrays[key]).double().flatten() for key in arrays.files])


def _flat(outputs: Any) -> torch.Tensor:
    """All values of a nest of tensors in a row."""
    return torch.cat([tensor.double().flatten() for tensor in tensors_of(outputs)])
