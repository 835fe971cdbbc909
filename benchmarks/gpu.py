"""Steps of search on one GPU: images a second and memory, eager, compiled and replayed as CUDA graphs.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json

Sizes are the papers': DARTS with 16 channels, 8 cells and batches of 64; ProxylessNAS on images of 224
pixels. The whole search of the paper is ``nasframe run cifar_darts``, whose report says what was active and
how long it took. On a CPU (``--device cpu --channels 4 --cells 2 --batch 4``) this only shows that it runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import nasframe
from measuring import machine, write_json
from nasframe.core import Batch, Model, Task, WeightUpdate
from nasframe.core.compiled import compiled
from nasframe.errors import NasframeError
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.optimizers.sgd import sgd

ALGORITHMS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "first order": ("darts", "darts_bilevel", {}),
    "second order": ("darts", "darts_bilevel", {"order": 2}),
    "second order, exact": ("darts", "darts_bilevel", {"order": 2, "hessian": "exact"}),
    "proxyless": ("mobile", "proxyless", {}),
}
MODES = ("eager", "compiled", "graphed")


@dataclass(frozen=True)
class Found:
    """What a contender took, or why it could not run.

    Attributes:
        algorithm: One of `ALGORITHMS`.
        mode: One of `MODES`.
        precision: What forward passes compute in.
        first_seconds: The first step, in which kernels are chosen and passes compiled.
        seconds: The median of the timed steps.
        images_per_second: Training images; as many held-out ones come beside them.
        peak_bytes: What tensors took at most; None on a CPU.
        failure: Why there are no figures.
    """

    algorithm: str
    mode: str
    precision: str
    first_seconds: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    peak_bytes: int | None = None
    failure: str | None = None


def main() -> None:
    """Measure the contenders one after the other, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="timed, of each contender")
    parser.add_argument("--only", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = []
    for algorithm in given.only:
        for precision in given.precisions:
            for mode in given.modes if algorithm != "proxyless" else ["eager"]:  # its paths are drawn
                found.append(measured(algorithm, mode, precision, given))
                print(found[-1], flush=True)
    device = torch.cuda.get_device_name() if given.device == "cuda" else given.device
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    if given.out:
        results = {"machine": machine(), "device": device, "settings": settings, "steps": found}
        write_json(given.out, results)


def measured(algorithm: str, mode: str, precision: str, given: argparse.Namespace) -> Found:
    """Time the steps of a contender in this process, which others have used before."""
    torch.manual_seed(0)
    named = {"algorithm": algorithm, "mode": mode, "precision": precision}
    device = torch.device(given.device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        model, step = built(algorithm, precision, device, given)
        with mode_of(model, mode):
            seconds = [timed(step, device) for _ in range(3 + given.steps)]
    except (NasframeError, RuntimeError) as error:
        return Found(**named, failure=" ".join(str(error).split())[:300])
    median = statistics.median(seconds[3:])
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return Found(**named, **asdict(_Figures(seconds[0], median, given.batch / median, peak)))


@dataclass(frozen=True)
class _Figures:
    first_seconds: float
    seconds: float
    images_per_second: float
    peak_bytes: int | None


def built(
    algorithm: str, precision: str, device: torch.device, given: argparse.Namespace
) -> tuple[Model, Callable[[], object]]:
    """A supernet, and a step of alphas and weights on batches of noise that the device holds."""
    parts = nasframe.registries
    sort, name, settings = ALGORITHMS[algorithm]
    if sort == "darts":
        size, classes, mixed_op = 32, 10, "softmax"
        space = parts["spaces"]["darts"](Task(), channels=given.channels, cells=given.cells)
    else:
        size, classes, mixed_op = 224, 1000, "binary_gate"
        space = parts["spaces"]["mobile"](Task((3, size, size), classes))
    model = nasframe.supernet(space, mixed_op, fused=device.type == "cpu")
    model.to(device).to(memory_format=torch.channels_last)
    model.train()
    model.autocast(torch.bfloat16 if precision == "bfloat16" else None)
    objective = CrossEntropy()
    weights = sgd(list(model.parameters_at("lower")))
    update = WeightUpdate(model, objective, weights, max_grad_norm=5.0)
    learner = parts["algorithms"][name](model, objective, **settings)
    learner.begin_epoch(0, 50)
    images = torch.randn(2, given.batch, 3, size, size, device=device)
    targets = torch.randint(classes, (2, given.batch), device=device)
    train, valid = (
        Batch(images[each].contiguous(memory_format=torch.channels_last), targets[each]) for each in (0, 1)
    )
    return model, lambda: learner.step(train, valid, update)


@contextmanager
def mode_of(model: Model, mode: str) -> Iterator[None]:
    """Inside, passes are made in a mode."""
    with compiled(model, graphs=mode == "graphed") if mode != "eager" else nullcontext():
        yield


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of a step, until the device has done it."""
    started = time.perf_counter()
    if device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
