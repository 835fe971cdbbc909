"""Run a small search for thousands of steps, and see whether memory, open files and threads stay.

    python benchmarks/health.py --steps 5000 --result benchmarks/results/health.json

A real run, with validation, trackers and checkpoints. Every few steps the process is looked at; after a
warm-up, a line is fitted to each figure by least squares. What counts as flat: as many files and threads as
after the warm-up, and memory whose line rises by less than 1 MiB in 1,000 steps.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import nasframe
from nasframe.recipe.allocator import allocator_settings, keep_freed_memory

WARM_UP = 0.5  # share of the steps: pictures load fonts, and the heap grows in ever rarer pieces
SAMPLES = 200
MOST_BYTES_A_STEP = 2**20 / 1000
BATCHES_AN_EPOCH = 100
_BATCH_SIZE = 8
_RECIPE = """
name: health
device: cpu
threads: 1
data: {{type: synthetic, num_train: {num_train}, num_test: 16, num_classes: 3, height: 8, width: 8}}
space: {{type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, sep_conv_3x3]}}
search:
  algorithm: darts_bilevel
  augment: [flip, {{type: crop, padding: 1}}]
  trainer: {{epochs: {epochs}, max_steps: {steps}, batch_size: {batch_size}, checkpoint_steps: 40}}
retrain: {{trainer: {{epochs: 1, batch_size: 8, max_steps: 2}}}}
"""

_NAMES = {"rss_bytes": "resident memory", "open_files": "open files", "threads": "threads"}

Samples = dict[str, list[int]]


def samples(steps: int, folder: Path, batches_an_epoch: int = BATCHES_AN_EPOCH) -> Samples:
    """What the process of a search took, by figure, at some of its steps."""
    recipe = folder / "health.yaml"
    recipe.write_text(
        _RECIPE.format(
            epochs=-(-steps // batches_an_epoch), steps=steps,
            num_train=2 * _BATCH_SIZE * batches_an_epoch, batch_size=_BATCH_SIZE,
        )
    )  # fmt: skip
    found: Samples = {"step": [], "rss_bytes": [], "open_files": [], "threads": []}
    every = max(1, steps // SAMPLES)

    def look(stage: str, step: int, *others: object) -> None:
        if stage == "search" and step % every == 0:
            found["step"].append(step)
            for name, value in _taken().items():
                found[name].append(value)

    nasframe.run(nasframe.load_recipe(recipe), folder / "run", look)
    return found


def _taken() -> dict[str, int]:
    """Of this process, as Linux says."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "rss_bytes": 1024 * int(status["VmRSS"].split()[0]),
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def slopes(found: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """How much each figure rises a step, after the warm-up."""
    first = int(len(found["step"]) * WARM_UP)
    steps = found["step"][first:]
    middle = sum(steps) / len(steps)
    spread = sum((step - middle) ** 2 for step in steps)
    return {
        name: sum((step - middle) * value for step, value in zip(steps, values[first:], strict=True)) / spread
        for name, values in found.items()
        if name != "step"
    }


def faults(found: Mapping[str, Sequence[int]]) -> list[str]:
    """What is not flat."""
    first = int(len(found["step"]) * WARM_UP)
    changed = [name for name in ("open_files", "threads") if len(set(found[name][first:])) > 1]
    return changed + ["rss_bytes"] * (slopes(found)["rss_bytes"] > MOST_BYTES_A_STEP)


def table(result: Mapping[str, Any]) -> Iterator[str]:
    """What was seen, as a table of Markdown."""
    yield "| figure | after the warm-up | at the end | slope in 1,000 steps |"
    yield "|---|---|---|---|"
    found = result["samples"]
    first = int(len(found["step"]) * WARM_UP)
    for figure, unit, size in (("rss_bytes", " MiB", 2**20), ("open_files", "", 1), ("threads", "", 1)):
        start, end = (f"{found[figure][place] / size:,.4g}{unit}" for place in (first, -1))
        rise = result["a_thousand_steps"][figure] / size
        yield f"| {_NAMES[figure]} | {start} | {end} | {rise:+.2g}{unit} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, look, fit, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000, help="of the search (default 5000)")
    parser.add_argument("--result", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # as on the command line
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nasframe-health-") as name:
        found = samples(options.steps, Path(name))
    rises, wrong = slopes(found), faults(found)
    result: dict[str, Any] = {
        "steps": options.steps,
        "seconds": round(time.monotonic() - began),
        "a_thousand_steps": {figure: round(1000 * rise, 3) for figure, rise in rises.items()},
        "not_flat": wrong,
        "samples": found,
        "allocator": allocator_settings(),
        "versions": {
            "nasframe": nasframe.__version__, "python": platform.python_version(), "torch": torch.__version__
        },
    }  # fmt: skip
    print("\n".join(table(result)))
    print(f"not flat: {', '.join(wrong)}" if wrong else "flat")
    if options.result:
        options.result.write_text(json.dumps(result) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
