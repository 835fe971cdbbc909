"""PyTorch's own portable format."""

import copy
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from nasframe.core import Exporter, Model, exporters, tensors_of
from nasframe.errors import UnsupportedError

_TOLERANCE = 1e-4
"""Of the largest output; rounding alone stays far below it."""


@exporters.register("torch_export")
@final
class TorchExport(Exporter):
    """Writes ``model.pt2`` for ``torch.export.load``: inference on the CPU, any batch size.

    The file is loaded again and compared with the network on the example, whole and on its first
    input alone.

    Raises:
        UnsupportedError: The network cannot be traced, or the file computes something else.
    """

    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        network = copy.deepcopy(model.network).cpu().eval()
        inputs = example.detach().cpu()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.pt2"
        torch.export.save(_traced(network, inputs), path)
        try:
            _check(path, network, inputs)
        except UnsupportedError:
            path.unlink()
            raise
        return path


def _traced(network: nn.Module, inputs: torch.Tensor) -> torch.export.ExportedProgram:
    # a batch of one would be taken for a batch that is always one
    several = inputs if len(inputs) > 1 else torch.cat([inputs, inputs])
    try:
        return torch.export.export(
            network, (several,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
    except Exception as error:  # tracing runs the network's own code
        raise UnsupportedError(
            f"torch_export: the network cannot be traced: {type(error).__name__}: {error}; "
            "its forward must not depend on values of tensors"
        ) from error


def _check(path: Path, network: nn.Module, inputs: torch.Tensor) -> None:
    loaded = torch.export.load(path).module()
    for part in (inputs, inputs[:1]):
        with torch.no_grad():
            expected, actual = _flat(network(part)), _flat(loaded(part))
        difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
        if not difference <= _TOLERANCE:
            raise UnsupportedError(
                f"torch_export: {path} must compute what the network computes, but is off by "
                f"{difference:.2g} of the largest output, more than {_TOLERANCE:g}"
            )


def _flat(outputs: Any) -> torch.Tensor:
    """All values of a nest of tensors in a row."""
    return torch.cat([tensor.double().flatten() for tensor in tensors_of(outputs)])
