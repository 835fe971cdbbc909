"""Training steps with images in both memory formats:  python benchmarks/memory_format.py [--out FILE].

Networks of each built-in space, supernets and derived ones, one thread, in turn in one process: processor
time of a pass and its gradients, the fastest of some.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import nasframe
from measuring import machine, write_json
from nasframe.core import Model, Task

SPACES: Mapping[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
    "darts": ((8, 16, 32), {"channels": 16, "cells": 3}),
    "nas_bench_201": ((8, 16, 32), {"channels": 16, "cells": 1}),
    "macro": ((8, 16, 32), {}),
    "mobile": ((32,), {}),
}
"""Sides of images in pixels, and settings."""

BATCH = 8


def networks(name: str) -> Iterator[tuple[str, Model, int]]:
    """A supernet and a derived network of a space for each size of images."""
    sizes, settings = SPACES[name]
    for size in sizes:
        space = nasframe.registries["spaces"][name](Task((3, size, size), 10), **settings)
        genotype = nasframe.core.sample(space, torch.Generator().manual_seed(0))
        yield f"{name}, {size} pixels, supernet", nasframe.supernet(space, "softmax"), size
        yield f"{name}, {size} pixels, derived", nasframe.derived(space, genotype), size


def seconds(model: Model, images: torch.Tensor) -> float:
    """Processor time of a pass and its gradients."""
    started = time.process_time()
    outputs = model(images)
    loss = (outputs if isinstance(outputs, torch.Tensor) else outputs[0]).square().mean()
    torch.autograd.grad(loss, [each for each in model.parameters() if each.requires_grad], allow_unused=True)
    return time.process_time() - started


def main() -> None:
    """Measure each network in turn in both formats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    found: dict[str, dict[str, float]] = {}
    for name, model, size in (each for space in given.only for each in networks(space)):
        images = torch.randn(BATCH, 3, size, size)
        times: dict[str, list[float]] = {each: [] for each in formats}
        for _ in range(1 + given.rounds):
            for each, memory_format in formats.items():
                model.to(memory_format=memory_format)  # type: ignore[call-overload]
                times[each].append(seconds(model, images.contiguous(memory_format=memory_format)))
        found[name] = {each: min(of_format[1:]) for each, of_format in times.items()}
        ratio = found[name]["channels_last"] / found[name]["contiguous"]
        print(f"{name}: {found[name]}, {ratio:.2f} of the time with channels_last", flush=True)
    if given.out:
        write_json(given.out, {"machine": machine(), "batch": BATCH, "seconds": found})


if __name__ == "__main__":
    main()
