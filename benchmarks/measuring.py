"""How the benchmarks measure: times in turn, peak memory, operations, and what is made of them."""

import json
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds of a repeated call: the median and the quartiles around it."""

    median: float
    lower: float
    upper: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """Quartiles with the ends included; of a single call all are its time."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0], 1)
        lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, lower, upper, len(seconds))


def in_turn(steps: Mapping[str, Step], repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each call; the contenders take turns, so that what slows the machine down meets all.

    Args:
        steps: One call for each contender.
        repeats: Timed rounds.
        warmup: Rounds before them that do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(warmup + repeats):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if round_ >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The k of value ≈ c · sizeᵏ: slope of the least-squares line through the logarithms."""
    logs = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(*logs).slope


def relative_error(got: Sequence[torch.Tensor], want: Sequence[torch.Tensor]) -> float:
    """‖got − want‖ / ‖want‖ over all entries together, in float64."""
    pairs = [(one.double(), other.double()) for one, other in zip(got, want, strict=True)]
    difference = math.hypot(*(float((one - other).norm()) for one, other in pairs))
    return difference / math.hypot(*(float(other.norm()) for _, other in pairs))


def peak_memory(build: Callable[[], Step], steps: int = 2) -> int:
    """Bytes by which some steps raise this process's resident set at its peak, over what it is before them.

    To be called in a process of its own, which has imported everything; `build` makes the model.

    Args:
        build: Makes what a step needs.
        steps: More than one, because optimizers make their state in the first.
    """
    step = build()
    before = _reset_peak()
    for _ in range(steps):
        step()
    return _peak() - before


def _reset_peak() -> int:
    """What the peak is counted from: the present resident set where the system can forget older peaks."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


class Operations(TorchDispatchMode):
    """Counts what runs inside.

    Attributes:
        count: Operations that reach the dispatcher below autograd, but for views, which compute nothing.
        written: Bytes of the tensors that they return.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count, self.written = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.count += 1
            outputs = result if isinstance(result, (tuple, list)) else [result]
            self.written += sum(each.nbytes for each in outputs if isinstance(each, torch.Tensor))
        return result


def machine() -> dict[str, Any]:
    """What the figures were taken on: processor, cores, threads, allocator settings, versions."""
    allocator = {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")}
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "allocator": allocator,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def write_json(path: Path, value: Any) -> None:
    """Write a nest of mappings, sequences, numbers, texts and dataclasses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, default=asdict) + "\n", encoding="utf-8")
