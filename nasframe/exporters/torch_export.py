"""PyTorch's own portable format."""

import copy
from pathlib import Path
from typing import final

import torch

from nasframe.core import Exporter, Model, exporters
from nasframe.exporters._checked import check, several, untraceable


@exporters.register("torch_export")
@final
class TorchExport(Exporter):
    """Writes ``model.pt2`` for ``torch.export.load``: inference on the CPU, any batch size.

    The file is loaded in a process of its own and compared with the network on the example, whole and
    on its first input alone.

    Raises:
        UnsupportedError: The network cannot be traced, or the file computes something else.
    """

    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        network = copy.deepcopy(model.network).cpu().eval()
        inputs = example.detach().cpu()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.pt2"
        batch = {0: torch.export.Dim("batch")}
        try:
            traced = torch.export.export(network, (several(inputs),), dynamic_shapes=(batch,), strict=False)
        except Exception as error:  # tracing runs the network's own code
            raise untraceable("torch_export", error) from error
        torch.export.save(traced, path)
        self.max_difference = check("torch_export", path, network, inputs)
        return path
