"""Kill ranks of real runs that torchrun started, at random moments, and count what was lost.

    python benchmarks/rank_kills.py --kills 60 --result benchmarks/results/rank_kills.json

Two ranks run a tiny recipe. Once a new checkpoint is there, a rank that is drawn is ended by SIGKILL at a
moment that is drawn; torchrun starts all ranks again, and so on until the run's end. Then all that it left
must be, bit for bit, what two ranks left that nobody killed. What runs came to is kept below --out, so that
the script goes on where it was stopped.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from kills import outcome
from measuring import machine, write_json

RANKS, SECONDS_WITHIN, MOST_SECONDS = 2, 4.0, 900
RECIPE = """
name: killed
device: cpu
threads: 1
data: {type: synthetic, num_train: 160, num_test: 24, num_classes: 3, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, sep_conv_3x3]}
search:
  algorithm: {type: darts_bilevel, order: %d, alpha_optimizer: {lr: 0.1}}
  augment: [flip, {type: crop, padding: 1}]
  trainer: {epochs: 6, batch_size: 8, checkpoint_steps: 2, batch_norm: synchronized, check_steps: 5}
retrain:
  space: {channels: 3, drop_path: 0.4}
  augment: [flip, {type: cutout, length: 2}]
  valid_fraction: 0.4
  trainer: {epochs: 6, batch_size: 8, checkpoint_steps: 2, check_steps: 5, optimizer: {lr: 0.1}}
"""


def started(recipe: Path, folder: Path) -> subprocess.Popen[bytes]:
    """The run in two ranks, which torchrun starts again whenever one ends."""
    launcher = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(RANKS),
        "--max-restarts",
        "99",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *launcher, "-m", "nasframe", "run", recipe, "--out", folder, "--quiet"],
            stdout=log, stderr=log, env=environment,
        )  # fmt: skip


def newest_checkpoint(folder: Path) -> tuple[str, str]:
    """Stage and name of the last one that was written; empty before the first."""
    found = folder.glob("*/checkpoints/step-*.pt")
    return max(
        ((path.parts[-3], path.name) for path in found),
        key=lambda each: (each[0] == "retrain", each[1]),
        default=("", ""),
    )


def killed_run(recipe: Path, folder: Path, drawn: random.Random) -> Iterator[dict[str, Any]]:
    """Run to the end, through kills of ranks.

    Yields:
        Each kill: which rank, and the newest checkpoint at that moment.

    Raises:
        RuntimeError: The run ended otherwise than well, or not at all.
    """
    launcher, before, end = started(recipe, folder), ("", ""), time.monotonic() + MOST_SECONDS
    while launcher.poll() is None:
        time.sleep(0.05)
        if time.monotonic() > end:
            launcher.kill()
            raise RuntimeError(f"{folder}: must end within {MOST_SECONDS} s")
        if newest_checkpoint(folder) == before:
            continue
        time.sleep(drawn.uniform(0, SECONDS_WITHIN))
        before = newest_checkpoint(folder)
        rank = drawn.randrange(RANKS)
        for process in psutil.Process(launcher.pid).children() if launcher.poll() is None else ():
            if process.environ().get("RANK") == str(rank):
                process.kill()
                yield {"rank": rank, "after": "/".join(before)}
    if launcher.returncode != 0:
        raise RuntimeError(f"{folder}: must end well, but exited with {launcher.returncode}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60, help="end after so many (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of ranks and moments (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/rank_kills"), help="folder (default runs/rank_kills)"
    )
    parser.add_argument("--result", type=Path, help="JSON file (default OUT/result.json)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    while sum(len(run["kills"]) for run in runs) < options.kills:
        order = 1 + len(runs) % 2
        recipe, whole, folder = (options.out / f"{name}{order}" for name in ("recipe", "whole", "killed"))
        recipe = recipe.with_suffix(".yaml")
        recipe.write_text(RECIPE % order)
        if not (whole / "report.json").exists() and started(recipe, whole).wait() != 0:
            raise RuntimeError(f"{whole}: must end well; see {whole}.log")
        if folder.exists():
            shutil.rmtree(folder)
        kills = list(killed_run(recipe, folder, random.Random(f"{options.seed} {len(runs)}")))
        expected, found = outcome(whole), outcome(folder)
        lost = [part for part in expected if found[part] != expected[part]]
        runs.append({"order": order, "kills": kills, "lost": lost})
        with log.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(f"order {order}: {len(kills)} kills, lost: {', '.join(lost) or 'nothing'}", flush=True)
    result = {"seed": options.seed, "ranks": RANKS, "runs": runs, "machine": machine()}
    write_json(options.result or options.out / "result.json", result)
    sys.exit(1 if any(run["lost"] for run in runs) else 0)


if __name__ == "__main__":
    main()
