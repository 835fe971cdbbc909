"""The time that a network takes on the device in hand."""

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from annotated_types import Ge
from torch import nn

from nasframe.core import Cost, Model, Task, costs, kept_random_state, map_tensors, on_meta, tensors_of
from nasframe.costs._latency_table import LatencyTable, Timing
from nasframe.costs._onnx_call import OnnxCall, require_onnx_runtime
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, WrittenFile


@costs.register("latency")
@final
class Latency(Cost):
    """Milliseconds of one input in evaluation mode: the median of several calls.

    The first calls, a warm-up, do not count. The runtime matters: ONNX Runtime is several times as fast as
    PyTorch on small networks, so that a budget in milliseconds means another network in each. Say the one
    that the network will be used with.

    Each part of a network is timed alone, at the shape that its site sees, so that the sum of the
    parts predicts the latency of the whole. Parts that print alike and map equal shapes to equal
    shapes are timed once.

    Args:
        device: Where it is timed; on the CPU with as many threads as PyTorch has at that moment.
        runtime: What runs the networks: `torch` is PyTorch; `onnx` is ONNX Runtime on the CPU, without what
            a call of a file takes in which nothing is computed. It needs the extra ``onnx``.
        warmup: Calls before the first that is timed.
        repeats: Calls that are timed.
        table: A JSON file where measurements are kept, and taken from; one of another device,
            number of threads, or version of the runtime is refused.

    Raises:
        UnsupportedError: ONNX Runtime is not installed, or asked for on another device than the CPU.
    """

    is_measured: ClassVar[bool] = True
    units: ClassVar[Mapping[str, float]] = MappingProxyType({"us": 1e-3, "ms": 1.0, "s": 1e3})

    def __init__(
        self,
        *,
        device: Literal["cpu", "cuda", "mps"] = "cpu",
        runtime: Literal["torch", "onnx"] = "torch",
        warmup: NonNegativeInt = 5,
        repeats: Annotated[int, Ge(2)] = 30,
        table: WrittenFile | None = None,
    ) -> None:
        if runtime == "onnx":
            require_onnx_runtime()
            if device != "cpu":
                raise UnsupportedError(
                    f"cost latency: device must be cpu with runtime `onnx`, got {device}; "
                    "leave it out, or time by runtime `torch`"
                )
        self._device, self._by_onnx = torch.device(device), runtime == "onnx"
        self._warmup, self._repeats = warmup, repeats
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
            runtime = "onnxruntime" if self._by_onnx else "torch"
            self._table = LatencyTable.open(self._path, self._device, runtime)
        return self._table

    def of(self, model: Model, task: Task) -> float:
        return self.of_call(on_meta(model.network), task.blank(1, device="meta"))

    def of_each(self, models: Sequence[Model], task: Task) -> list[float]:
        """Measured anew, in turns."""
        inputs = (task.blank(1, device="meta"),)
        calls = [self._prepared(on_meta(model.network), inputs, {}) for model in models]
        return [timing.median_ms for timing in self._timed(calls)]

    def of_call(self, module: nn.Module, *args: Any, **kwargs: Any) -> float:
        key = _key(module, args, kwargs)
        if key not in self.table.timings:
            (timing,) = self._timed([self._prepared(module, args, kwargs)])
            self.table.add(key, timing)
        return self.table.timings[key].median_ms

    @torch.no_grad()
    def _prepared(self, module: nn.Module, args: Any, kwargs: Any) -> Callable[[], float]:
        """What calls a module once, and tells the milliseconds."""
        with kept_random_state(self._device):
            real = copy.deepcopy(module).to_empty(device=self._device)
            for tensor in (*real.parameters(), *real.buffers()):
                _fill(tensor)
            args, kwargs = map_tensors(self._like, (args, kwargs))
            if self._by_onnx:
                return OnnxCall(real, args, kwargs)
            return partial(self._call, real, args, kwargs)

    @torch.no_grad()
    def _timed(self, calls: Sequence[Callable[[], float]]) -> list[Timing]:
        """Timings of calls that take turns, so that other work on the machine meets all alike."""
        with kept_random_state(self._device):
            rounds = [[call() for call in calls] for _ in range(self._warmup + self._repeats)]
        return [Timing.of(durations_ms) for durations_ms in zip(*rounds[self._warmup :], strict=True)]

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
