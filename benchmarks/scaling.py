"""What a DARTS search moves and computes at several sizes:  python benchmarks/scaling.py [--out FILE].

Weights, alphas and statistics of batch norms are counted, and by PyTorch on the meta device the operations of
a pass forward and backward. How long two processes here take to average weights (gloo) is measured.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing
from torch.utils.flop_counter import FlopCounterMode

import nasframe
from measuring import machine
from nasframe.core import Task

FEW = ("none", "sep_conv_3x3", "skip_connect", "dil_conv_3x3")
CIFAR, IMAGENET = Task(), Task((3, 224, 224), 1000)
SIZES: dict[str, tuple[Task, dict[str, Any]]] = {
    **{f"{channels} channels": (CIFAR, {"channels": channels}) for channels in (8, 16, 32)},
    **{f"{cells} cells": (CIFAR, {"cells": cells}) for cells in (4, 12)},
    **{f"{len(names)} candidates": (CIFAR, {"operations": names}) for names in (FEW, FEW[:2])},
    "ImageNet, 16 channels": (IMAGENET, {"stem": "imagenet"}),
    "ImageNet, 48 channels, 14 cells": (IMAGENET, {"stem": "imagenet", "channels": 48, "cells": 14}),
}
ROUNDS = 100


def counted(task: Task, settings: dict[str, Any]) -> dict[str, float]:
    """What a supernet has, and what an image costs it."""
    with torch.device("meta"):
        model = nasframe.supernet(
            nasframe.registries["spaces"]["darts"](task, **settings), "softmax", fused=False
        )
        images = torch.empty(2, *task.input_shape)
        with FlopCounterMode(display=False) as flops:
            model(images).sum().backward()
    return {
        "weights": sum(each.numel() for each in model.parameters_of("weight")),
        "alphas": sum(each.numel() for each in model.parameters_of("alpha")),
        "statistics": sum(each.numel() for each in model.buffers() if each.is_floating_point()),
        "gflop_per_image": flops.get_total_flops() / len(images) / 1e9,
    }


def _average(rank: int, store: str, count: int, found: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    numbers, seconds = torch.zeros(count), []
    for _ in range(ROUNDS):
        distributed.barrier()
        started = time.perf_counter()
        distributed.all_reduce(numbers)
        seconds.append(time.perf_counter() - started)
    if rank == 0:
        found.put(min(seconds))
    distributed.destroy_process_group()


def averaged(count: int) -> float:
    """Seconds that two processes take to add up so many numbers; the fastest of many times."""
    context = multiprocessing.get_context("spawn")
    found = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_average, (f"{folder}/store", count, found), nprocs=2)
        return float(found.get())


def main() -> None:
    """Count, measure, and write both down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    out = parser.parse_args().out
    sizes = {name: counted(*size) for name, size in SIZES.items()}
    numbers = sorted({int(sizes[name]["weights"]) for name in ("8 channels", "16 channels", "32 channels")})
    seconds = {str(count): averaged(count) for count in numbers}
    found = {
        "machine": machine(),
        "sizes": sizes,
        "averaging": {"backend": "gloo", "ranks": 2, "seconds": seconds},
    }
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
