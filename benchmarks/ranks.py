"""A DARTS step on one rank and on two, and what these send:  python benchmarks/ranks.py [--out FILE].

Two processes (gloo, one thread each) take turns: a round in which the first computes steps of the whole batch
alone, then one in which both compute half of it. What is compared is processor time, so that it matters
little who else computes on the machine: a rank that waits takes none. Bytes are counted at the paper's size,
where they do not depend on the batch.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

import nasframe
from measuring import machine, write_json
from nasframe.core import Batch, Task, WeightUpdate
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.optimizers.sgd import sgd

ORDERS = (1, 2)
PAPER = {"channels": 16, "cells": 8}


@dataclass(frozen=True)
class Size:
    """What is computed.

    Attributes:
        channels: Of the first cell.
        cells: How many.
        batch: Images of a step, of all ranks.
    """

    channels: int
    cells: int
    batch: int


Step = Callable[[], object]


def built(size: Size, order: int, part: tuple[int, int]) -> Step:
    """A step on a part of a batch of noise."""
    torch.manual_seed(0)
    space = nasframe.registries["spaces"]["darts"](Task(), channels=size.channels, cells=size.cells)
    model = nasframe.supernet(space, "softmax")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    update = WeightUpdate(model, CrossEntropy(), sgd(list(model.parameters_at("lower"))), max_grad_norm=5.0)
    learner = nasframe.registries["algorithms"]["darts_bilevel"](model, CrossEntropy(), order=order)
    learner.begin_epoch(0, 50)
    number, count = part
    own = slice(size.batch * number // count, size.batch * (number + 1) // count)
    images = torch.randn(2, size.batch, 3, 32, 32)[:, own]
    targets = torch.randint(10, (2, size.batch))[:, own]
    train, valid = (
        Batch(images[each].contiguous(memory_format=torch.channels_last), targets[each]) for each in (0, 1)
    )
    return lambda: learner.step(train, valid, update)


def timed(step: Step) -> float:
    """Processor time of a step, in all threads of the process."""
    started = time.process_time()
    step()
    return time.process_time() - started


def counted(step: Step) -> list[int]:
    """The bytes of each tensor that the ranks add up in a step, but for flags and figures."""
    sizes: list[int] = []
    add_up = distributed.all_reduce

    def hear(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tensor.nbytes)
        return add_up(tensor, *args, **kwargs)

    distributed.all_reduce = hear
    try:
        step()
    finally:
        distributed.all_reduce = add_up
    return sizes


def _compute(number: int, folder: str, turns: Any, rounds: int, size: Size, found: Any) -> None:
    """What each process does; the first one tells the times of both."""
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {}
    for round_ in range(rounds + 1):  # the first one does not count
        for order in ORDERS:
            if number == 0:
                step = built(size, order, (0, 1))
                step()
                times.setdefault(f"{order} alone", []).append(timed(step))
            turns.wait()
            store = f"file://{folder}/{round_}-{order}"
            distributed.init_process_group("gloo", init_method=store, rank=number, world_size=2)
            step = built(size, order, (number, 2))
            step()
            own = torch.tensor([timed(step)], dtype=torch.float64)
            distributed.all_reduce(own, distributed.ReduceOp.MAX)
            times.setdefault(f"{order} of two", []).append(float(own))
            distributed.destroy_process_group()
            turns.wait()
    distributed.init_process_group("gloo", init_method=f"file://{folder}/end", rank=number, world_size=2)
    sent = {str(order): counted(built(Size(**PAPER, batch=4), order, (number, 2))) for order in ORDERS}
    distributed.destroy_process_group()
    if number == 0:
        found.put(({name: each[1:] for name, each in times.items()}, sent))


def main() -> None:
    """Let two processes take turns, and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    size = Size(given.channels, given.cells, given.batch)
    context = multiprocessing.get_context("spawn")
    found, turns = context.SimpleQueue(), context.Barrier(2)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_compute, (folder, turns, given.rounds, size, found), nprocs=2)
        times, sent = found.get()
    for name, each in times.items():
        print(f"order {name}: fastest {min(each):.3f} s, median {statistics.median(each):.3f} s")
    for order, sizes in sent.items():
        print(f"order {order}: {sum(sizes):,} bytes a step, in {len(sizes)} pieces: {sizes}")
    if given.out:
        results = {"machine": machine(), "size": vars(size), "processor_seconds": times, "bytes": sent}
        write_json(given.out, results)


if __name__ == "__main__":
    main()
