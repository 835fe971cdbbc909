"""How long networks and files take for one input on the CPU."""

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

Compute: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

_WARMUP: Final = 10


def session_of(path: Path) -> Compute:
    """What a file computes, with as many threads as PyTorch takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def compute(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["outputs"], {"inputs": inputs.numpy()})[0])

    return compute


@torch.no_grad()
def latencies(ways: Iterable[Compute], inputs: torch.Tensor, repeats: int) -> list[float]:
    """Median milliseconds of each way; they take turns, so that other work meets all alike."""
    durations: dict[Compute, list[float]] = {compute: [] for compute in ways}
    for _ in range(_WARMUP + repeats):
        for compute, measured in durations.items():
            started = time.perf_counter()
            compute(inputs)
            measured.append(1000 * (time.perf_counter() - started))
    return [statistics.median(measured[_WARMUP:]) for measured in durations.values()]
