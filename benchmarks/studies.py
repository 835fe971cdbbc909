"""The experiments of `steps.py` that are not races."""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import nasframe
from first_step import MARK
from measuring import Operations, Times, growth_exponent, in_turn, relative_error
from nasframe.core import BatchStream, Checkpoints
from supernets import Contender, Nasframe, Peer, Setting

Lines = Iterator[str]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What an experiment is run with.

    Attributes:
        setting: Of the DARTS experiments.
        repeats: Timed rounds.
        data: Folder of CIFAR-10's Parquet files, or None.
    """

    setting: Setting
    repeats: int
    data: Path | None


@dataclass(frozen=True)
class Study:
    """An experiment of its own kind.

    Attributes:
        title: What is studied.
        run: Its figures.
        lines: What is printed of them.
        goal: What is aimed at, in words.
    """

    title: str
    run: Callable[[Options], Figures]
    lines: Callable[[Figures], Lines]
    goal: str = ""


# what the authors' own code was counted to do: 16 channels, 8 cells (operations at any batch size)
KNOWN_COUNTS = {"forward_operations": 7162, "forward_bytes": 12.8e9, "second_order_operations": 67_000}


def counts(options: Options) -> Figures:
    """Operations and bytes of the authors' computations as written here, against what is known of them."""
    wide, narrow = Setting(batch=64), Setting(batch=2)
    peer = Peer(wide, second_order=True)
    with Operations() as forward:
        peer.network(peer.train[0])
    peer = Peer(narrow, second_order=True)
    peer.step()
    network, weights = peer.network, list(peer.network.parameters())
    peer.search.optimizer.zero_grad()
    passes: list[Callable[[], object]] = [
        lambda: torch.autograd.grad(network.loss(peer.train), weights),
        lambda: network.loss(peer.valid).backward(),
        *[lambda: torch.autograd.grad(network.loss(peer.train), network.alphas)] * 2,
        lambda: network.loss(peer.train).backward(),
    ]
    second_order = 0
    for each in passes:
        network.zero_grad()
        with Operations() as operations:
            each()
        second_order += operations.count
    found = {
        "forward_operations": forward.count,
        "forward_bytes": forward.written,
        "second_order_operations": second_order,
    }
    return {name: {"found": value, "known": KNOWN_COUNTS[name]} for name, value in found.items()}


def counts_lines(figures: Figures) -> Lines:
    """The counts beside what is known."""
    for name, each in figures.items():
        off = each["found"] / each["known"] - 1
        yield f"{name:28}{each['found']:>16,}  known {each['known']:>16,.0f}  {off:+.1%}"


def equality(options: Options) -> Figures:
    """Relative errors of alpha gradients against the authors' computation in float64."""
    orders: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "first order": ({"second_order": False}, {"order": 1}),
        "second order": ({"second_order": True}, {"order": 2}),
    }
    figures: Figures = {}
    for order, (of_peer, of_ours) in orders.items():
        contenders: Mapping[str, Callable[[Setting], Contender]] = {
            "original": partial(Peer, **of_peer),
            "nasframe": partial(Nasframe, **of_ours),
            "nasframe, not fused": partial(Nasframe, fused=False, **of_ours),
            "nasframe, not fused, NCHW": partial(Nasframe, fused=False, channels_last=False, **of_ours),
        }
        single, double = (
            replace(options.setting, clip=None),
            replace(options.setting, clip=None, dtype=torch.float64),
        )
        truth = contenders["original"](double).gradients()
        figures[order] = {
            name: {
                "float64": relative_error(build(double).gradients(), truth) if name != "original" else 0.0,
                "float32": relative_error(build(single).gradients(), truth),
            }
            for name, build in contenders.items()
        }
    return figures


def equality_lines(figures: Figures) -> Lines:
    """Errors by order and contender."""
    yield f"{'':44}{'float64':>12}{'float32':>12}"
    for order, by_name in figures.items():
        for name, errors in by_name.items():
            yield f"{order:16}{name:28}{errors['float64']:>12.1e}{errors['float32']:>12.1e}"


GROWTH_BASE = Setting(channels=8, cells=5, batch=8)
_SOME = ("max_pool_3x3", "sep_conv_3x3", "skip_connect", "dil_conv_5x5")
GROWTH: Mapping[str, Mapping[int, Setting]] = {
    "channels": {size: replace(GROWTH_BASE, channels=size) for size in (8, 16, 32)},
    "cells": {size: replace(GROWTH_BASE, cells=size) for size in (4, 8, 12)},
    "batch": {size: replace(GROWTH_BASE, batch=size) for size in (8, 16, 32)},
    "candidates": {
        2: replace(GROWTH_BASE, operations=_SOME[:2]),
        4: replace(GROWTH_BASE, operations=_SOME),
        8: GROWTH_BASE,
    },
}


def growth(options: Options) -> Figures:
    """How a first-order step grows along each axis, the others staying small."""
    figures: Figures = {}
    for axis, settings in GROWTH.items():
        steps: dict[tuple[str, int], Callable[[], object]] = {}
        for size, setting in settings.items():
            steps["original", size] = Peer(setting, second_order=False).step
            steps["nasframe", size] = Nasframe(setting, order=1).step
        seconds = in_turn({f"{name} {size}": step for (name, size), step in steps.items()}, options.repeats)
        figures[axis] = {
            name: {
                "seconds": {size: Times.of(seconds[f"{name} {size}"]).median for size in settings},
                "exponent": growth_exponent(
                    list(settings), [Times.of(seconds[f"{name} {size}"]).median for size in settings]
                ),
            }
            for name in ("original", "nasframe")
        }
    return figures


def growth_lines(figures: Figures) -> Lines:
    """Medians along each axis, and the exponent of the power law through them."""
    for axis, by_name in figures.items():
        for name, each in by_name.items():
            medians = "  ".join(f"{size}: {1000 * value:.0f} ms" for size, value in each["seconds"].items())
            yield f"{axis:12}{name:12}{medians:48}exponent {each['exponent']:.2f}"


def start(options: Options) -> Figures:
    """Seconds from the command to the first step of `digits_darts`."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = [_seconds_to_first_step(Path(folder) / str(index)) for index in range(1 + options.repeats)]
    return {"first_run": seconds[0], "others": Times.of(seconds[1:])}


def _seconds_to_first_step(out: Path) -> float:
    plugin = Path(__file__).with_name("first_step.py")
    command = [sys.executable, "-m", "nasframe", "run", "digits_darts", "--plugin", str(plugin)]
    command += ["search.algorithm.type=first_step", "--out", str(out)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        said = []
        for line in run.stdout or ():
            said.append(line)
            if MARK in line:
                return time.perf_counter() - began
    raise RuntimeError(f"start: the run must come to its first step, but ended with\n{''.join(said)}")


def start_lines(figures: Figures) -> Lines:
    """The first run, whose files may not have been in memory, and the others."""
    times = figures["others"]
    yield f"first run {figures['first_run']:.2f} s; then median {times.median:.2f} s "
    yield f"(quartiles {times.lower:.2f} .. {times.upper:.2f} s, {times.count} runs)"


def overhead(options: Options) -> Figures:
    """Where the seconds of the search and the retraining of `digits_darts` go, from their first steps on."""
    parts = nasframe.registries
    sections = {
        "steps": [(parts["algorithms"][name], "step") for name in ("darts_bilevel", "weights_only")],
        "validation": [(parts["trainers"]["standard"], "evaluate")],
        "preparing batches": [(BatchStream, "_prepare")],  # those of validation are counted there too
        "checkpoints": [(Checkpoints, "save")],
        "metrics.jsonl": [(parts["trackers"]["jsonl"], "log")],
        "tensorboard": [(parts["trackers"]["tensorboard"], "log")],
    }
    clock = Clock(begins_with="steps")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name, methods in sections.items():
            for owner, method in methods:
                stack.enter_context(clock.timing(name, owner, method))
        stack.enter_context(clock.stage(parts["trainers"]["standard"], "fit"))
        nasframe.run(nasframe.load_recipe("digits_darts"), out=Path(folder) / "run")
    share = 1 - (clock.seconds["steps"] + clock.seconds["validation"]) / clock.whole
    return {"before": clock.before, "whole": clock.whole, "seconds": clock.seconds, "overhead": share}


class Clock:
    """Adds up the time within methods, while a stage runs and from its first step on.

    Args:
        begins_with: The name under which a stage's first call is its first step.

    Attributes:
        seconds: By name.
        whole: Of all stages, from their first steps on.
        before: Of all stages, until then.
    """

    def __init__(self, begins_with: str) -> None:
        self.seconds: dict[str, float] = {}
        self.whole, self.before = 0.0, 0.0
        self._begins_with, self._in_stage = begins_with, False
        self._first: float | None = None

    @contextmanager
    def timing(self, name: str, owner: Any, method: str) -> Iterator[None]:
        """Inside, calls of a class's method count under a name."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            if self._in_stage and self._first is None and name == self._begins_with:
                self._first = began
            try:
                return original(*args, **kwargs)
            finally:
                if self._first is not None:
                    self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

        with patch.object(owner, method, timed):
            yield

    @contextmanager
    def stage(self, owner: Any, method: str) -> Iterator[None]:
        """Inside, each call of a class's method is a stage."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, self._in_stage = time.perf_counter(), True
            try:
                return original(*args, **kwargs)
            finally:
                ended = time.perf_counter()
                first = ended if self._first is None else self._first
                self.before, self.whole = self.before + first - began, self.whole + ended - first
                self._in_stage, self._first = False, None

        with patch.object(owner, method, timed):
            yield


def overhead_lines(figures: Figures) -> Lines:
    """Each section's share, and what is neither steps nor validation."""
    for name, seconds in figures["seconds"].items():
        yield f"{name:20}{seconds:>8.2f} s {seconds / figures['whole']:>7.1%}"
    yield f"all but steps and validation {figures['overhead']:.2%} of {figures['whole']:.1f} s"
    yield f"besides, {figures['before']:.1f} s before the first steps"


def checkpointed(options: Options) -> Figures:
    """Nothing yet."""
    return {"left_out": "nasframe has no checkpointing of cells yet"}


def checkpointed_lines(figures: Figures) -> Lines:
    """Why there are no figures."""
    yield f"left out: {figures['left_out']}"


def data(options: Options) -> Figures:
    """Images a second that come out of CIFAR-10's Parquet files, prepared and augmented, and nothing else."""
    if options.data is None:
        return {"left_out": "needs --data FOLDER, where CIFAR-10's Parquet files are"}
    parts = nasframe.registries
    began = time.perf_counter()
    dataset = parts["datasets"]["cifar10"](path=options.data)
    read = time.perf_counter() - began
    augment = [parts["augmentations"][name]() for name in ("crop", "flip", "cutout")]
    stream = BatchStream(
        dataset.train,
        dataset.preprocess,
        batch_size=64,
        device=torch.device("cpu"),
        training=True,
        augment=augment,
    )
    began, images = time.perf_counter(), 0
    for batch in itertools.islice(stream.forever(), 400):
        images += len(batch)
    return {"seconds_to_read": read, "images_per_second": images / (time.perf_counter() - began)}


def data_lines(figures: Figures) -> Lines:
    """Speed, and what is paid once."""
    if "left_out" in figures:
        yield f"left out: {figures['left_out']}"
    else:
        speed, read = figures["images_per_second"], figures["seconds_to_read"]
        yield f"{speed:,.0f} images/s, after {read:.1f} s of reading the files"


STUDIES: Mapping[str, Study] = {
    "checkpointed": Study(
        "DARTS with each cell checkpointed",
        checkpointed,
        checkpointed_lines,
        "3.5 times less memory than the original, stretch 5, at most 1.6 times the time of the fast step",
    ),
    "counts": Study(
        "the authors' computations as written here, against their known counts", counts, counts_lines
    ),
    "equality": Study(
        "error of alpha gradients against the authors' computation in float64",
        equality,
        equality_lines,
        "float64 at most 1e-10; float32 at most twice that of the original",
    ),
    "growth": Study("a first-order step as a function of size", growth, growth_lines),
    "start": Study("from `nasframe run digits_darts` to the first step", start, start_lines),
    "overhead": Study(
        "trainer, tracking and checkpoints of `digits_darts`", overhead, overhead_lines, "under 3 %"
    ),
    "data": Study("data loading alone", data, data_lines),
}
