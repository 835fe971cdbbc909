"""ONNX, which most inference engines read."""

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import torch
from torch import nn

from nasframe.core import Dataset, Exported, Exporter, FinishedRun, Model, NormalizeImages, exporters
from nasframe.errors import UnsupportedError
from nasframe.exporters._checked import check, several, untraceable
from nasframe.exporters._timed import Compute, latencies, session_of

_REPEATS: Final = 100


@exporters.register("onnx")
@final
class Onnx(Exporter):
    """Writes ``model.onnx``: one file with its weights, input ``inputs``, output ``outputs``, any batch size.

    The file is checked as ONNX, run by ONNX Runtime on the CPU in a process without PyTorch, and compared
    with the network on the example, whole and on its first input alone. Needs the extra ``onnx``.

    That of a run has what its user must know in its metadata, as JSON: ``classes``, and the ``mean`` and
    ``std`` that images from 0 to 1 are normalized by; where outputs are numbers, the names of the
    ``targets``, which are an output times ``target_std`` plus ``target_mean``.

    Where the search had a latency for its cost, that of the file is measured: one input on the CPU, the
    median of calls that take turns with those of the network in PyTorch.

    Raises:
        UnsupportedError: The network cannot be traced or has no one output, the file computes something
            else, or a package is missing.
    """

    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        return self._checked(model, example, folder, {})

    def export_run(self, run: FinishedRun, folder: Path) -> Exported:
        path = self._checked(run.model, run.example, folder, _known(run.data))
        figures = {} if run.predicted_latency_ms is None else _timed(run, path, run.predicted_latency_ms)
        return Exported(path, self.max_difference, len(run.example), figures)

    def _checked(
        self, model: Model, example: torch.Tensor, folder: Path, metadata: Mapping[str, str]
    ) -> Path:
        _require_packages()
        network = copy.deepcopy(model.network).cpu().eval()
        inputs = example.detach().cpu()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.onnx"
        _write(network, several(inputs), path)
        if metadata:
            _note(path, metadata)
        self.max_difference = check("onnx", path, network, inputs)
        return path


def _timed(run: FinishedRun, path: Path, predicted_ms: float) -> dict[str, dict[str, float]]:
    """The latency of the file for one input, beside that of the network and what the search took it for."""
    ways: list[Compute] = [lambda inputs: run.model(inputs), session_of(path)]
    by_torch, by_file = latencies(ways, run.example[:1], _REPEATS)
    return {
        "PyTorch": {"latency_ms": by_torch},
        "float32": {"latency_ms": by_file, "bytes": float(path.stat().st_size)},
        "predicted by the search": {"latency_ms": predicted_ms},
    }


def _require_packages() -> None:
    """Refuse where something that an export needs is not installed."""
    for package in ("onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UnsupportedError(
                f"onnx: needs {package}, which is not installed; pip install 'nasframe[onnx]'"
            )


def _known(data: Dataset) -> dict[str, str]:
    """What a network's user has to know of the data."""
    known = {"classes": json.dumps(data.class_names)} if data.class_names else {}
    if isinstance(data.preprocess, NormalizeImages):
        known |= {"mean": json.dumps(data.preprocess.mean), "std": json.dumps(data.preprocess.std)}
    if (scale := data.target_scale).names:
        known |= {"targets": json.dumps(scale.names)}
        known |= {"target_mean": json.dumps(scale.means), "target_std": json.dumps(scale.deviations)}
    return known


def _note(path: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    written = onnx.load(path)
    onnx.helper.set_model_props(written, dict(metadata))
    onnx.save(written, path)


def _write(network: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns that there is no torchvision, whose operations nothing here has
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's and the translator's, of each other
            torch.onnx.export(
                network, (inputs,), path,
                input_names=["inputs"], output_names=["outputs"], dynamic_shapes=({0: "batch"},),
                external_data=False, dynamo=True, verbose=False,
            )  # fmt: skip
    except Exception as error:  # tracing runs the network's own code
        raise untraceable("onnx", error) from error
    finally:
        log.setLevel(level)
