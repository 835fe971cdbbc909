"""The time that a network takes on the device in hand."""

import copy
import hashlib
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from annotated_types import Ge
from torch import nn

from nasframe.core import Cost, Model, Task, costs, kept_random_state, map_tensors, on_meta, tensors_of
from nasframe.costs._latency_table import LatencyTable, Timing
from nasframe.types import NonNegativeInt, WrittenFile


@costs.register("latency")
@final
class Latency(Cost):
    """Milliseconds that PyTorch takes for one input in evaluation mode: the median of several calls.

    The first calls, a warm-up, do not count. Another engine takes other times: ONNX Runtime on a CPU is
    several times as fast on small networks, as the exporter `onnx_int8` measures.

    Each part of a network is timed alone, at the shape that its site sees, so that the sum of the
    parts predicts the latency of the whole. Parts that print alike and map equal shapes to equal
    shapes are timed once.

    Args:
        device: Where it is timed; on the CPU with as many threads as PyTorch has at that moment.
        warmup: Calls before the first that is timed.
        repeats: Calls that are timed.
        table: A JSON file where measurements are kept, and taken from; one of another device,
            number of threads or version of PyTorch is refused.
    """

    is_measured: ClassVar[bool] = True
    units: ClassVar[Mapping[str, float]] = MappingProxyType({"us": 1e-3, "ms": 1.0, "s": 1e3})

    def __init__(
        self,
        *,
        device: Literal["cpu", "cuda", "mps"] = "cpu",
        warmup: NonNegativeInt = 5,
        repeats: Annotated[int, Ge(2)] = 30,
        table: WrittenFile | None = None,
    ) -> None:
        self._device, self._warmup, self._repeats = torch.device(device), warmup, repeats
        self._path = table
        self._table: LatencyTable | None = None

    @property
    def table(self) -> LatencyTable:
        """What was measured so far, and what the file holds.

        Raises:
            FormatError: The file is no such table.
            UnsupportedError: It is the table of another device.
        """
        if self._table is None:
            self._table = LatencyTable.open(self._path, self._device)
        return self._table

    def of(self, model: Model, task: Task) -> float:
        return self.of_call(on_meta(model.network), task.blank(1, device="meta"))

    def of_call(self, module: nn.Module, *args: Any, **kwargs: Any) -> float:
        key = _key(module, args, kwargs)
        if key not in self.table.timings:
            self.table.add(key, self._time(module, args, kwargs))
        return self.table.timings[key].median_ms

    @torch.no_grad()
    def _time(self, module: nn.Module, args: Any, kwargs: Any) -> Timing:
        with kept_random_state(self._device):
            real = copy.deepcopy(module).to_empty(device=self._device)
            for tensor in (*real.parameters(), *real.buffers()):
                _fill(tensor)
            args, kwargs = map_tensors(self._like, (args, kwargs))
            durations_ms = [self._call(real, args, kwargs) for _ in range(self._warmup + self._repeats)]
        return Timing.of(durations_ms[self._warmup :])

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        return _fill(torch.empty_like(tensor, device=self._device))

    def _call(self, module: nn.Module, args: Any, kwargs: Any) -> float:
        self._wait()
        started = time.perf_counter()
        module(*args, **kwargs)
        self._wait()
        return 1000 * (time.perf_counter() - started)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()


def _fill(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers that no kernel is slow on, and that a batch norm can take for variances."""
    return tensor.uniform_(0.5, 1.5) if tensor.is_floating_point() else tensor.zero_()


@torch.no_grad()
def _key(module: nn.Module, args: Any, kwargs: Any) -> str:
    """Class, input and output shapes for people, and a digest of all that the module prints."""
    inputs, outputs = _shapes((args, kwargs)), _shapes(module(*args, **kwargs))
    digest = hashlib.sha256(repr(module).encode()).hexdigest()[:12]
    return f"{type(module).__name__} {inputs} -> {outputs} {digest}"


def _shapes(nest: Any) -> str:
    return " ".join("x".join(map(str, tensor.shape)) for tensor in tensors_of(nest))
