"""Kill real runs at random moments, resume them, and count what was lost.

    python benchmarks/kills.py --kills 500 --out runs/kills --result benchmarks/results/kills.json

A run of a tiny recipe is ended by SIGKILL and resumed, again and again until it reaches its end; then all
that it left must be, bit for bit, what a run that nobody killed left. Moments are drawn from the seed; which
step one hits depends on the machine's load. A kill counts after the first step and before the end. What runs
came to is kept below --out, so that the script goes on where it was stopped.
"""

import argparse
import collections
import hashlib
import itertools
import json
import os
import platform
import random
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as ShownEvents

import nasframe
from nasframe.core import Checkpoints
from nasframe.errors import FaultWarning
from nasframe.recipe import resume

STAGES = ("search", "retrain")
_LAYOUT = "custom_scalars__config__"
_SOON = 0.2
_INTERRUPTED = 130
_FLIPS = 200
_COMMON = """
device: cpu
threads: 1
data: {type: synthetic, num_train: 40, num_test: 22, num_classes: 3, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, sep_conv_3x3]}
retrain:
  space: {channels: 3, drop_path: 0.4}
  augment: [flip, {type: cutout, length: 2}]
  valid_fraction: 0.4
  trainer: {epochs: 3, batch_size: 8, checkpoint_steps: 2, optimizer: {lr: 0.1}, schedule: %s}
"""
_SEARCH = """
search:
  algorithm: {%s}
  mixed_op: %s
  augment: [flip, {type: crop, padding: 1}]
  trainer: {epochs: 3, batch_size: 8, checkpoint_steps: 1, optimizer: {lr: 0.1}}
"""
_EXPLORE = "  explorer: {%s}\n  score: %s\n  evaluations: 5\n"
_EACH_STEP = "{type: cosine, each_step: true}"
_DARTS = "type: darts_bilevel, alpha_optimizer: {lr: 0.1}, alpha_schedule: cosine"
ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "darts_bilevel, first order": (f"{_DARTS}, order: 1", "softmax"),
    "darts_bilevel, second order": (f"{_DARTS}, order: 2", "softmax"),
    "proxyless, two paths": ("type: proxyless, alpha_optimizer: {lr: 0.1}", "binary_gate"),
    "proxyless, all paths": ("type: proxyless, update: all_paths", "binary_gate"),
    "proxyless, REINFORCE": ("type: proxyless, update: reinforce, num_samples: 2", "binary_gate"),
    "single_path, evolution by the supernet": (
        "type: single_path", "uniform_path", _EXPLORE % (
            "type: evolution, population: 2, mutants: 1, children: 1",
            "{type: supernet, calibration_batches: 1}",
        ),
    ),
    "fairnas, regularized evolution by the supernet": (
        "type: fairnas", "uniform_path",
        _EXPLORE % ("type: regularized_evolution, population: 2", "{type: supernet, calibration_batches: 1}"),
    ),
    "local search by retraining": (_DARTS, "softmax", _EXPLORE % ("type: local_search", "retraining")),
    "darts_bilevel, dirichlet, random perturbation": (
        _DARTS, "dirichlet", "  perturbation: random\n  regularizers: [dirichlet_anchor]\n",
    ),
    "darts_bilevel, concrete, adversarial perturbation": (
        _DARTS, "concrete", "  perturbation: adversarial\n  regularizers: [beta_decay]\n",
    ),
    "darts_bilevel in stages": (
        _DARTS, "softmax",
        "  stages: [{}, {keep: 2, inherits: [weights, alphas], space: {channels: 4, skip_dropout: 0.3}}]\n",
    ),
}  # fmt: skip
"""Every built-in search with its ways; each run retrains by `weights_only`."""

Outcome = dict[str, Any]


def recipe_text(algorithm: str) -> str:
    """The recipe of a run that is killed."""
    settings, mixed_op, *more = ALGORITHMS[algorithm]
    return f"name: killed\n{_COMMON % _EACH_STEP}{_SEARCH % (settings, mixed_op)}{''.join(more)}"


def outcome(folder: Path) -> Outcome:
    """Everything in a finished run's folder that its recipe decides; what measures time is left out."""
    report = json.loads((folder / "report.json").read_text())
    return {
        "recipe": (folder / "recipe.yaml").read_text(),
        "genotype": (folder / "search" / "genotype.json").read_text(),
        "metrics": report["metrics"],
        "alphas": report["alphas"],
        "weights": _plain(load_file(folder / "retrain" / "model.safetensors")),
        "scores": _text(folder / "search" / "scores.jsonl"),
        "lines": {stage: _lines(folder / stage / "metrics.jsonl") for stage in STAGES},
        "states": {part: _plain(Checkpoints(folder / part).latest()) for part in _checkpoints(folder)},
        "events": {stage: _events(folder / stage / "tensorboard") for stage in STAGES},
    }


def _checkpoints(folder: Path) -> list[str]:
    """Where the last state of each part of a run is, and what a stage of a search left to the next."""
    stages = sorted(path.name for path in (folder / "search").glob("stage_*"))
    parts = [f"search/{stage}/{kind}" for stage in stages for kind in ("checkpoints", "outcome")]
    return [*(f"{stage}/checkpoints" for stage in STAGES), *parts]


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _plain(value: Any) -> Any:
    """Tensors as bytes, so that `==` compares them bit for bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _is_speed(tag: str) -> bool:
    return tag.endswith("images_per_second")


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{tag: value for tag, value in line.items() if not _is_speed(tag)} for line in lines]


def _events(folder: Path) -> tuple[dict[str, Any], ...]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
    shown = ShownEvents(str(folder))  # as TensorBoard's server reads them
    for each in (events, shown):
        each.Reload()
    tags = events.Tags()
    scalars = {
        tag: [(event.step, None if _is_speed(tag) else event.value) for event in events.Scalars(tag)]
        for tag in tags["scalars"]
    }
    histograms = {
        tag: [(event.step, tuple(event.histogram_value.bucket)) for event in events.Histograms(tag)]
        for tag in tags["histograms"]
    }
    images = {
        tag: [(event.step, event.encoded_image_string) for event in events.Images(tag)]
        for tag in tags["images"]
    }
    layout = [(event.step, event.tensor_proto.string_val[0]) for event in shown.Tensors(_LAYOUT)]
    recipe = [event.step for event in shown.Tensors("recipe/text_summary")]  # which is compared as a file
    return scalars, histograms, images, layout, recipe


class Leg:
    """A process that runs a recipe, or goes on with its run; heard through a pipe."""

    def __init__(self, recipe: Path, folder: Path) -> None:
        self._pipe, written = os.pipe()
        sys.stdout.flush()
        self._process = os.fork()  # torch is imported once for hundreds of them
        if self._process == 0:
            os.close(self._pipe)
            _work(recipe, folder, written)
        os.close(written)
        self.last = ""

    def wait_for_step(self) -> bool:
        """Wait for a step; False if the process ended before any."""
        return self._read() != b""

    def ended_after(self, seconds: float) -> bool:
        """Whether the process ended by itself within so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._pipe], [], [], left)[0] and self._read() == b"":
                return True
        return False

    def end(self, number: signal.Signals) -> int:
        """Send a signal; how the process ended, as the negative number of a signal or its exit code."""
        os.kill(self._process, number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; likewise."""
        while self._read() != b"":
            pass
        os.close(self._pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])

    def _read(self) -> bytes:
        read = os.read(self._pipe, 65536)
        if lines := read.decode().split():
            self.last = lines[-1]
        return read


def _work(recipe: Path, folder: Path, pipe: int) -> None:
    """The life of a leg; never returns."""

    def progress(stage: str, step: int, *others: object) -> None:
        os.write(pipe, f"{stage.replace(' ', '_')}:{step}\n".encode())  # search 1/2 is one word

    warnings.simplefilter("error", FaultWarning)  # an end by a signal breaks nothing that could be told
    try:
        if (folder / "status.json").exists():
            resume(folder, progress)
        else:
            nasframe.run(nasframe.load_recipe(recipe, check=False), folder, progress)
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def killed_run(
    recipe: Path, folder: Path, drawn: random.Random, within: float, number: signal.Signals
) -> Iterator[dict[str, Any]]:
    """Run to the end, through kills at moments drawn from so many seconds after the first step.

    Some of those after a resume are counted from its beginning, so that they hit it before its first step.

    Yields:
        Each kill: the last step that was heard, and whether a file was half written.

    Raises:
        RuntimeError: A process ended otherwise than by the kill or at its end.
    """
    while True:
        soon = folder.exists() and drawn.random() < _SOON
        leg = Leg(recipe, folder)
        ended = not soon and not leg.wait_for_step()
        ended = ended or leg.ended_after(drawn.uniform(0, within))
        code = leg.wait() if ended else leg.end(number)
        if code == 0:
            return
        if code not in (-number, _INTERRUPTED):  # the system ends it where no handler is yet
            raise RuntimeError(f"{folder}: must end by the kill or well, but exited with {code}")
        yield {"after": leg.last or "resuming", "half_written": bool(list(folder.rglob("*.partial")))}


def unkilled(recipe: Path, folder: Path) -> tuple[Outcome, float]:
    """What a run leaves that nobody kills, and its seconds after the first step.

    It runs in this process, which so has imported whatever the others need before they begin.
    """
    if folder.exists():
        shutil.rmtree(folder)
    moments: list[float] = []
    nasframe.run(nasframe.load_recipe(recipe), folder, lambda *told: moments.append(time.monotonic()))
    return outcome(folder), time.monotonic() - moments[0]


def soak(
    algorithms: Sequence[str],
    num_kills: int,
    num_runs: int,
    seed: int,
    out: Path,
    number: signal.Signals,
    parts: float = 6,
) -> list[dict[str, Any]]:
    """Run after run, the algorithms in turn, until so many kills were counted; ``runs.jsonl`` keeps each."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    expected: dict[str, tuple[Outcome, float]] = {}
    while sum(len(run["kills"]) for run in runs) < num_kills or len(runs) < num_runs:
        index, began = len(runs), time.monotonic()
        algorithm = algorithms[index % len(algorithms)]
        recipe = out / f"{hashlib.sha256(algorithm.encode()).hexdigest()[:8]}.yaml"
        recipe.write_text(recipe_text(algorithm))
        if algorithm not in expected:
            expected[algorithm] = unkilled(recipe, recipe.with_suffix(""))
        whole, seconds = expected[algorithm]
        folder = out / "killed"
        if folder.exists():
            shutil.rmtree(folder)
        kills = list(killed_run(recipe, folder, random.Random(f"{seed} {index}"), seconds / parts, number))
        result = outcome(folder)
        lost = [part for part in whole if result[part] != whole[part]]
        status = json.loads((folder / "status.json").read_text())
        lost += ["status"] * (status["ended"] != "done")
        lost += ["leftovers"] * bool(list(folder.rglob("*.partial")))
        if lost:
            shutil.copytree(folder, out / f"lost-{index}")
        runs.append(
            {
                "algorithm": algorithm,
                "kills": kills,
                "lost": lost,
                "seconds": round(time.monotonic() - began, 1),
            }
        )
        with log.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(
            f"run {index}: {algorithm}: {len(kills)} kills, lost: {', '.join(lost) or 'nothing'}", flush=True
        )
    return runs


def summary(runs: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """What was tried and what was lost, as plain data."""
    by_algorithm = {
        name: {
            "runs": sum(run["algorithm"] == name for run in runs),
            "kills": sum(len(run["kills"]) for run in runs if run["algorithm"] == name),
            "lost": sum(bool(run["lost"]) for run in runs if run["algorithm"] == name),
        }
        for name in dict.fromkeys(run["algorithm"] for run in runs)
    }
    kills = [kill for run in runs for kill in run["kills"]]
    return {
        "seed": seed,
        "runs": len(runs),
        "kills": len(kills),
        "lost": sum(bool(run["lost"]) for run in runs),
        "by_algorithm": by_algorithm,
        "by_stage": dict(collections.Counter(kill["after"].partition(":")[0] for kill in kills)),
        "half_written": sum(kill["half_written"] for kill in kills),
        "seconds": round(sum(run["seconds"] for run in runs)),
        "versions": {
            "nasframe": nasframe.__version__, "python": platform.python_version(), "torch": torch.__version__
        },
    }  # fmt: skip


def damage(out: Path, seed: int) -> dict[str, Any]:
    """Cut the newest checkpoint of a real run off at every percent, and flip bits of it.

    Each time it must be told, and the one before be read; resuming after it must end like an unkilled run.
    """
    recipe, folder = out / "damaged.yaml", out / "damaged"
    recipe.write_text(recipe_text(next(iter(ALGORITHMS))))
    whole, _ = unkilled(recipe, recipe.with_suffix(".whole"))
    if folder.exists():
        shutil.rmtree(folder)

    def stop(stage: str, step: int, *others: object) -> None:
        if (stage, step) == ("search", 5):
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        nasframe.run(nasframe.load_recipe(recipe), folder, stop)
    checkpoints = Checkpoints(folder / "search" / "checkpoints")
    *_, before, newest = sorted((folder / "search" / "checkpoints").glob("step-*.pt"))
    content, drawn = newest.read_bytes(), random.Random(seed)
    cuts = [content[: len(content) * percent // 100] for percent in range(100)]
    places = drawn.sample(range(8 * len(content)), _FLIPS)
    lost = 0
    for spoilt in itertools.chain(cuts, (_flipped(content, place) for place in places)):
        newest.write_bytes(spoilt)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            state = checkpoints.latest()
        told_so = any(newest.name in str(each.message) for each in told)
        lost += not told_so or state is None or not before.name.startswith(f"step-{state['step']:09d}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resume(folder)
    lost += outcome(folder) != whole
    return {"truncated": len(cuts), "flipped": len(places), "lost": lost}


def _flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def table(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was tried, how often and what was lost, as a table of Markdown."""
    yield "| fault | times | lost |"
    yield "|---|---|---|"
    for found in results:
        for algorithm, each in found["by_algorithm"].items():
            yield _row(f"{found['signal']}, {algorithm}", each)
        yield _row(f"{found['signal']}, all of these", found)
    spoilt = [found["damaged"] for found in results]
    truncated, flipped = (sum(each[name] for each in spoilt) for name in ("truncated", "flipped"))
    lost = sum(each["lost"] for each in spoilt)
    yield f"| newest checkpoint cut off, or one of its bits flipped | {truncated} and {flipped} | {lost} |"


def _row(fault: str, counted: Mapping[str, Any]) -> str:
    return f"| {fault} | {counted['kills']} in {counted['runs']} runs | {counted['lost']} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill, resume, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500, help="end after so many (default 500)")
    parser.add_argument("--runs", type=int, default=0, help="but not before so many runs (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--signal", default="SIGKILL", choices=["SIGKILL", "SIGTERM", "SIGINT"])
    parser.add_argument(
        "--parts",
        type=float,
        default=6,
        help="kill within such a part of a run's seconds (default 6, a sixth)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/kills"), help="folder (default runs/kills)")
    parser.add_argument("--result", type=Path, help="JSON file (default OUT/result.json)")
    parser.add_argument(
        "--algorithms", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS), metavar="NAME",
        help=f"of {', '.join(ALGORITHMS)} (default all)",
    )  # fmt: skip
    parser.add_argument("--table", type=Path, nargs="+", metavar="RESULT", help="print results, and stop")
    options = parser.parse_args(arguments)
    if options.table:
        print("\n".join(table([json.loads(path.read_text()) for path in options.table])))
        return
    number = signal.Signals[options.signal]
    print(f"seed {options.seed}", flush=True)
    runs = soak(
        options.algorithms, options.kills, options.runs, options.seed, options.out, number, options.parts
    )
    found = {
        "signal": number.name,
        **summary(runs, options.seed),
        "damaged": damage(options.out, options.seed),
    }
    lost = found["lost"] + found["damaged"]["lost"]
    path = options.result or options.out / "result.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{found['kills']} kills in {found['runs']} runs, {found['lost']} runs lost something; {path}")
    print("\n".join(table([found])))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
