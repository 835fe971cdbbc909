"""Calls of a module by ONNX Runtime."""

import contextlib
import importlib.util
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from nasframe.core import map_tensors, tensors_of
from nasframe.core.prices import Opened
from nasframe.errors import UnsupportedError


def require_onnx_runtime() -> None:
    """Refuse where it is not installed.

    Raises:
        UnsupportedError: It is not.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise UnsupportedError(
            "cost latency: runtime `onnx` needs onnxruntime, which is not installed; "
            "pip install 'nasframe[onnx]'"
        )


@final
class OnnxCall:
    """Calls a module with the same inputs again and again, on the CPU, with as many threads as PyTorch has.

    It is translated by the older of PyTorch's two exporters, which is fifty times as fast; the files of both
    are run equally fast.

    Args:
        module: In evaluation mode, on the CPU.
        args: What it is called with.
        kwargs: Likewise.

    Raises:
        UnsupportedError: It cannot be translated.
    """

    def __init__(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        around = Opened(module)
        inputs = (around.holes(torch.device("cpu")), args, dict(kwargs))
        try:
            self._run = _session(_Flat(around, inputs), tensors_of(inputs))
            self._idle = _session(nn.Identity(), tensors_of(inputs)[:1])
        except Exception as error:  # tracing runs the network's own code
            raise UnsupportedError(
                f"cost latency: {type(module).__name__} cannot be translated to ONNX: "
                f"{type(error).__name__}: {error}; time it by runtime `torch`"
            ) from error

    def __call__(self) -> float:
        """Milliseconds of one call, less those of a call that does nothing, which each part would have."""
        return max(0.0, _call(*self._run) - _call(*self._idle))


@final
class _Flat(nn.Module):
    """Takes the tensors of a nest of inputs one by one."""

    def __init__(self, module: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.module, self._like = module, inputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        left = iter(tensors)
        outputs: tuple[torch.Tensor, ...] = self.module(*map_tensors(lambda _: next(left), self._like))
        return outputs


def _session(module: nn.Module, inputs: list[torch.Tensor]) -> tuple[Any, dict[str, Any]]:
    """A session, and what it is fed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    names = [f"input_{index}" for index in range(len(inputs))]
    session = onnxruntime.InferenceSession(
        _translated(module, inputs, names), options, providers=["CPUExecutionProvider"]
    )
    values = dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True))
    return session, {each.name: values[each.name] for each in session.get_inputs()}


def _translated(module: nn.Module, inputs: list[torch.Tensor], names: list[str]) -> bytes:
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(None),  # where it prints what it cannot do
    ):
        warnings.simplefilter("ignore")  # of the exporter's age, and of shapes that it takes for constant
        path = Path(folder) / "part.onnx"
        torch.onnx.export(module, tuple(inputs), path, input_names=names, dynamo=False)
        return path.read_bytes()


def _call(session: Any, values: dict[str, Any]) -> float:
    started = time.perf_counter()
    session.run(None, values)
    return 1000 * (time.perf_counter() - started)
