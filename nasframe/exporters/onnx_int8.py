"""ONNX in whole numbers of eight bits, which some processors compute faster."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import torch

from nasframe.core import Exported, Exporter, FinishedRun, Model, Split, exporters
from nasframe.errors import UnsupportedError
from nasframe.exporters._checked import run_apart
from nasframe.exporters._timed import Compute, latencies, session_of
from nasframe.types import PositiveInt

_BATCH: Final = 64


@exporters.register("onnx_int8")
@final
class OnnxInt8(Exporter):
    """Writes ``model_int8.onnx`` beside ``model.onnx``: weights and activations of layers as 8-bit integers.

    It is ONNX Runtime's static quantization: scales and zero points of activations come from what they are
    on training examples, those of weights are one a channel, and weights take 7 of the 8 bits, so that no
    processor's sums overflow. It computes something else than the network,
    so what it costs and gains is measured: the figures of the objective on all test examples, the latency of
    one input (median of calls that take turns) on the CPU, and the size of the file, beside those of the
    network in PyTorch and of the float file. Needs the extra ``onnx``.

    Args:
        num_calibration: Training examples that activations are looked at on, at most.
        calibration: How their range follows: `min_max` covers all of it; `percentile` leaves the farthest
            hundredth of a thousandth out; `entropy` loses the least information.
        repeats: Calls of each that are timed.

    Raises:
        UnsupportedError: The network cannot be written as ONNX or quantized, or a package is missing.
    """

    def __init__(
        self,
        *,
        num_calibration: PositiveInt = 256,
        calibration: Literal["min_max", "percentile", "entropy"] = "min_max",
        repeats: PositiveInt = 100,
    ) -> None:
        self._num_calibration, self._calibration, self._repeats = num_calibration, calibration, repeats

    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        """Write `model`, calibrated on the example; that of a finished run on its training examples."""
        exact = exporters.component("onnx")().export(model, example, folder)
        return self._write(exact, model, example, [example])

    def export_run(self, run: FinishedRun, folder: Path) -> Exported:
        count = min(self._num_calibration, len(run.data.train))
        order = torch.randperm(len(run.data.train), generator=torch.Generator().manual_seed(0))[:count]
        calibrating = [_inputs(run, run.data.train, indices) for indices in torch.split(order, _BATCH)]
        untimed = replace(run, predicted_latency_ms=None)  # it is timed below, beside the others
        exact = exporters.component("onnx")().export_run(untimed, folder).path
        path = self._write(exact, run.model, run.example, calibrating)
        ways: dict[str, Compute] = {
            "PyTorch": lambda inputs: run.model(inputs),
            "float32": session_of(exact),
            "int8": session_of(path),
        }
        latencies_ms = latencies(ways.values(), run.example[:1], self._repeats)
        figures = {
            name: {**_test_figures(run, compute), "latency_ms": latency_ms}
            for (name, compute), latency_ms in zip(ways.items(), latencies_ms, strict=True)
        }
        for name, file in (("float32", exact), ("int8", path)):
            figures[name]["bytes"] = float(file.stat().st_size)
        if run.predicted_latency_ms is not None:
            figures["predicted by the search"] = {"latency_ms": run.predicted_latency_ms}
        return Exported(path, self.max_difference, len(run.example), figures)

    def _write(
        self, exact: Path, model: Model, example: torch.Tensor, calibrating: Iterable[torch.Tensor]
    ) -> Path:
        path = exact.with_name("model_int8.onnx")
        try:
            with _quiet():
                _quantize(exact, path, calibrating, self._calibration)
        except Exception as error:  # whatever the library makes of a network
            path.unlink(missing_ok=True)
            raise UnsupportedError(
                f"onnx_int8: the network must have layers that ONNX Runtime can quantize, but: "
                f"{type(error).__name__}: {error}; export `onnx`"
            ) from error
        (actual,) = run_apart("onnx", [path], example)
        with torch.no_grad():
            expected = torch.cat([model(part).double().flatten() for part in (example, example[:1])])
        self.max_difference = float((actual - expected).abs().max())
        return path


def _quantize(exact: Path, path: Path, calibrating: Iterable[torch.Tensor], calibration: str) -> None:
    from onnxruntime import quantization

    method = {
        "min_max": quantization.CalibrationMethod.MinMax,
        "percentile": quantization.CalibrationMethod.Percentile,
        "entropy": quantization.CalibrationMethod.Entropy,
    }[calibration]

    @final
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # the package has no types
        def __init__(self) -> None:
            self._batches = iter(calibrating)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"inputs": batch.numpy()}

    with tempfile.TemporaryDirectory() as name:
        prepared = Path(name) / "prepared.onnx"
        # folds batch norms into convolutions, and notes the shapes
        quantization.quant_pre_process(str(exact), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Reader(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # sums of two products overflow 16 bits on processors that add them so (AVX2)
            calibrate_method=method,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the library's advice goes nowhere, for what it advises is done."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def _inputs(run: FinishedRun, split: Split, indices: torch.Tensor) -> torch.Tensor:
    """Network inputs."""
    preprocess = run.data.preprocess
    inputs: torch.Tensor = preprocess.normalize(preprocess.scale(split.batch(indices).inputs))
    return inputs


@torch.no_grad()
def _test_figures(run: FinishedRun, compute: Compute) -> Mapping[str, float]:
    """Means of loss and metrics over the test examples."""
    totals: dict[str, float] = {}
    for indices in torch.split(torch.arange(len(run.data.test)), _BATCH):
        outputs, targets = compute(_inputs(run, run.data.test, indices)), run.data.test.batch(indices).targets
        values = {"loss": run.objective.loss(outputs, targets), **run.objective.metrics(outputs, targets)}
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(indices)
    return {f"test_{name}": total / len(run.data.test) for name, total in totals.items()}
