"""What does a search step cost, here and in the implementations before it?

    make bench                                      everything, in an environment of its own
    python benchmarks/steps.py --only first_order,second_order --size small

A race checks first that its contenders compute the same gradient, in float64; a peer with a known fault must
differ by that fault's term alone. Then they take turns in one process, with the same weights, batches,
threads and allocator settings. Peak memory is measured for each in a process of its own, which gives freed
memory back at once: how far two steps raise the resident set over what it is when everything is imported and
the model stands. Prints tables; each experiment that is done is a JSON file in the folder of results.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from measuring import Times, in_turn, machine, peak_memory, write_json
from races import AGREEMENT, RACES, Race
from studies import STUDIES, Options, Study
from supernets import Setting

SETTINGS = {"target": Setting(), "small": Setting(channels=8, cells=5, batch=8)}
EXPERIMENTS: Mapping[str, Race | Study] = {**RACES, **STUDIES}
# glibc keeps what is freed; or else each step would pay for the first touch of its pages again
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}


def run_race(name: str, race: Race, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a race; memory first, because timing fills this process's own."""
    errors = race.check()
    peaks = {} if options.no_memory else {each: _peak(name, each, options) for each in race.contenders}
    contenders = {each: build(race.settings[options.size]) for each, build in race.contenders.items()}
    seconds = in_turn({each: made.step for each, made in contenders.items()}, options.repeats or race.repeats)
    times = {each: Times.of(values) for each, values in seconds.items()}
    return {"errors": errors, "times": times, "seconds": seconds, "peak_bytes": peaks}


def _peak(race: str, contender: str, options: argparse.Namespace) -> int:
    """Bytes of a contender's steps at their peak."""
    command = [sys.executable, str(Path(__file__)), "--peak", race, contender]
    command += ["--size", options.size, "--threads", str(options.threads)]
    environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.splitlines()[-1])


def print_race(race: Race, result: Mapping[str, Any], size: str) -> None:
    """A table of a race at a size."""
    times, peaks = result["times"], result["peak_bytes"]
    first = times[next(iter(race.contenders))]
    unit = "" if race.unit is None else f"× {race.unit}"
    width = max(9, len(unit) + 2)
    head = f"  {'':28}{'median':>9}{'quartiles':>20}{'faster':>8}{unit:>{width}}"
    print(f"{head}{'memory':>11}{'less':>6}{'off by':>8}")
    for each in race.contenders:
        time = times[each]
        quartiles = f"{_seconds(time.lower)} .. {_seconds(time.upper)}"
        line = f"  {each:28}{_seconds(time.median):>9}{quartiles:>20}{first.median / time.median:>8.2f}"
        line += f"{'' if race.unit is None else f'{time.median / times[race.unit].median:.2f}':>{width}}"
        if peaks:
            line += f"{peaks[each] / 2**20:>7.0f} MiB{peaks[next(iter(peaks))] / peaks[each]:>6.2f}"
        else:
            line += f"{'':17}"
        error = result["errors"].get(each)
        print(line if error is None else f"{line}{error:>8.0e}")
    for each, known in race.known_peaks.items():
        if peaks and size == "target":
            print(f"  memory of {each}: known {known / 2**20:.0f} MiB, {peaks[each] / known - 1:+.1%}")


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    if options.peak:
        race, contender = RACES[options.peak[0]], options.peak[1]
        setting, build = race.settings[options.size], race.contenders[contender]
        print(peak_memory(lambda: getattr(build(setting), race.memory_of)))
        return
    if any(os.environ.get(key) != value for key, value in ALLOCATOR.items()):
        command = [sys.executable, str(Path(__file__)), *(sys.argv[1:] if arguments is None else arguments)]
        os.execve(sys.executable, command, {**os.environ, **ALLOCATOR})  # read when a process starts
    here = machine()
    print(", ".join(f"{key} {value}" for key, value in here.items() if key != "allocator"))
    wrong: list[str] = []
    for name in options.only:
        target = options.results and options.results / f"steps-{options.size}-{name}.json"
        if options.resume and target and target.exists():
            print(f"\n{name}: there already, {target.name}")
            continue
        experiment = EXPERIMENTS[name]
        print(f"\n{name}: {experiment.title}")
        if experiment.goal:
            print(fill(f"goal: {experiment.goal}", 98, initial_indent="  ", subsequent_indent="    "))
        if isinstance(experiment, Race):
            result = run_race(name, experiment, options)
            result["unit"] = experiment.unit
            print_race(experiment, result, options.size)
            wrong += [f"{name}: {each}" for each, error in result["errors"].items() if not error <= AGREEMENT]
        else:
            result = experiment.run(Options(SETTINGS[options.size], options.repeats or 2, options.data))
            for line in experiment.lines(result):
                print(f"  {line}")
        sys.stdout.flush()
        if target:
            said = {"title": experiment.title, "goal": experiment.goal}
            write_json(target, {**said, "machine": here, **result})
    if wrong:
        sys.exit(f"gradients must agree to {AGREEMENT:.0e} (see `off by`), but do not: {'; '.join(wrong)}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_names, default=list(EXPERIMENTS), help="experiments, with commas")
    parser.add_argument("--repeats", type=int, help="timed rounds (default: what each experiment says)")
    parser.add_argument("--size", choices=list(SETTINGS), default="target")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "2")))
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10's Parquet files, for `data`")
    parser.add_argument("--results", type=Path, help="folder for the JSON files (default: none are written)")
    parser.add_argument("--resume", action="store_true", help="leave out what has a JSON file there")
    parser.add_argument("--peak", nargs=2, metavar=("RACE", "CONTENDER"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(EXPERIMENTS)}, got {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    main()
