"""What does a search step cost, here and in the implementations before it?

    make bench                                      everything, in an environment of its own
    python benchmarks/steps.py --only first_order,second_order --size small

Each experiment checks first that its contenders compute the same gradient, in float64; a peer with a known
fault must differ by that fault's term alone. Then they take turns in one process, with the same weights,
batches, threads and allocator settings. Peak memory is measured for each in a process of its own: how far
two steps raise the resident set over what it is once everything is imported and the model stands. Prints
tables; each experiment that is done is a JSON file in the folder of results.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import Times, in_turn, machine, peak_memory, plain, relative_error
from supernets import Contender, Nasframe, Peer, Setting

RESULTS = Path(__file__).parent / "results"
AGREEMENT = 1e-9
# glibc keeps what is freed; or else each step would pay for the first touch of its pages again
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}
SIZES = {"target": Setting(), "small": Setting(channels=8, cells=5, batch=8)}


@dataclass(frozen=True)
class Race:
    """Contenders that take turns.

    Attributes:
        title: What is raced.
        contenders: How each is built; the first is the one that the others are compared with.
        goal: What is aimed at, in words.
        faults: What a contender's gradient differs from the first one's by.
    """

    title: str
    contenders: Mapping[str, Callable[[Setting], Contender]]
    goal: str

    def check(self, setting: Setting) -> dict[str, float]:
        """Relative error of each contender's alpha gradient against the first one's, after a step."""
        gradients = {}
        for name, build in self.contenders.items():
            contender = build(setting)
            contender.step()  # momentum and Adam's moments are then there
            gradients[name] = contender.gradients()
        first, *others = gradients
        return {name: relative_error(gradients[name], gradients[first]) for name in others}


ORIGINAL = "original"
EXPERIMENTS: Mapping[str, Race] = {
    "first_order": Race(
        "DARTS, first order: a step of alphas and a step of weights",
        {
            ORIGINAL: partial(Peer, second_order=False),
            "nasframe": partial(Nasframe, order=1),
            "nasframe, NCHW": partial(Nasframe, order=1, channels_last=False),
        },
        "time 3.3 times less, stretch 4.5; memory 1.7 times less",
    ),
    "second_order": Race(
        "DARTS, second order by central difference, in the paper's order of updates",
        {
            ORIGINAL: partial(Peer, second_order=True),
            "nasframe": partial(Nasframe, order=2),
            "nasframe, NCHW": partial(Nasframe, order=2, channels_last=False),
        },
        "time 2.7 times less, stretch 4; memory 2.2 times less, stretch 3",
    ),
}


def race(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a race."""
    experiment, setting = EXPERIMENTS[name], SIZES[options.size]
    errors = experiment.check(setting.check())
    peaks = {} if options.no_memory else {each: _peak(name, each, options) for each in experiment.contenders}
    contenders = {each: build(setting) for each, build in experiment.contenders.items()}
    seconds = in_turn({each: made.step for each, made in contenders.items()}, options.repeats)
    times = {each: Times.of(values) for each, values in seconds.items()}
    return {"errors": errors, "times": times, "seconds": seconds, "peak_bytes": peaks}


def _peak(experiment: str, contender: str, options: argparse.Namespace) -> int:
    """Bytes of a contender's steps at their peak, in a process that gives freed memory back at once."""
    command = [sys.executable, str(Path(__file__)), "--peak", experiment, contender]
    command += ["--size", options.size, "--threads", str(options.threads)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout)


def show(name: str, result: Mapping[str, Any]) -> None:
    """A table of a race."""
    experiment, times, peaks = EXPERIMENTS[name], result["times"], result["peak_bytes"]
    first = next(iter(experiment.contenders))
    print(f"\n{name}: {experiment.title}\n  goal: {experiment.goal}")
    print(
        f"  {'':28}{'median':>9}{'quartiles':>18}{'ratio':>8}{'peak':>10}{'ratio':>8}{'gradient off by':>18}"
    )
    for each in experiment.contenders:
        time, error = times[each], result["errors"].get(each)
        quartiles = f"{_seconds(time.lower)} .. {_seconds(time.upper)}"
        line = (
            f"  {each:28}{_seconds(time.median):>9}{quartiles:>18}{times[first].median / time.median:>8.2f}"
        )
        if peaks:
            line += f"{peaks[each] / 1e9:>7.2f} GB{peaks[first] / peaks[each]:>8.2f}"
        print(line + (f"{error:>18.1e}" if error is not None else ""))
    print(flush=True)


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    if options.peak:
        experiment, contender = options.peak
        build = EXPERIMENTS[experiment].contenders[contender]
        print(peak_memory(lambda: build(SIZES[options.size]).step))
        return
    if any(os.environ.get(key) != value for key, value in ALLOCATOR.items()):
        command = [sys.executable, str(Path(__file__)), *(sys.argv[1:] if arguments is None else arguments)]
        os.execve(sys.executable, command, {**os.environ, **ALLOCATOR})  # read when a process starts
    wrong = []
    print(json.dumps(machine()))
    for name in options.only:
        result = race(name, options)
        show(name, result)
        wrong += [f"{name}: {each}" for each, error in result["errors"].items() if not error <= AGREEMENT]
        if options.results:
            _write(options.results / f"steps-{options.size}-{name}.json", {**machine(), **result})
    if wrong:
        sys.exit(f"gradients must agree to {AGREEMENT:.0e}, but do not: {'; '.join(wrong)}")


def _write(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(result), indent=2) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_names, default=list(EXPERIMENTS), help="experiments, with commas")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--size", choices=list(SIZES), default="target")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "2")))
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--results", type=Path, help="folder for the JSON files (default: none written)")
    parser.add_argument("--peak", nargs=2, metavar=("EXPERIMENT", "CONTENDER"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(EXPERIMENTS)}, got {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    main()
