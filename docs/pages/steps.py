"""What a step costs here and in the implementations before it, from the results of `make bench`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import nasframe
from pages.markdown import prose, table

RESULTS: Final = Path(nasframe.__file__).parents[1] / "benchmarks" / "results"
_PREFIX: Final = "steps-target-"


def make() -> Iterator[tuple[str, str]]:
    """Path and text of the page."""
    found = {
        path.stem.removeprefix(_PREFIX): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob(f"{_PREFIX}*.json"))
    }
    races = [race(name, result) for name, result in found.items() if "times" in result]
    yield (
        "reference/steps",
        f"""# What a step costs, against others

As `make bench` measured it: contenders took turns in one process, with the same weights, batches, threads
and allocator settings, after their gradients had been found equal in float64. *Faster* and *less* are
against the first line. `benchmarks/README.md` says who the others are and how it measures,
`benchmarks/LOG.md` what made steps faster.

{chr(10).join(races) or "There are no results yet: run `make bench`."}""",
    )


def race(name: str, result: Mapping[str, Any]) -> str:
    """The section of one race."""
    times, peaks, machine = result["times"], result["peak_bytes"], result["machine"]
    first, unit = next(iter(times)), result.get("unit")
    header = ["", "a step (quartiles)", "faster", "memory", "less", "gradient off by"]
    rows = []
    for each, time in times.items():
        seconds = f"{_seconds(time['median'])} ({_seconds(time['lower'])} to {_seconds(time['upper'])})"
        memory = ["", ""]
        if each in peaks:
            memory = [f"{peaks[each] / 2**20:,.0f} MiB", f"{peaks[first] / peaks[each]:.2f} ×"]
        error = result["errors"].get(each)
        row = [each, seconds, f"{times[first]['median'] / time['median']:.2f} ×", *memory]
        row.append("" if error is None else f"{error:.0e}")
        rows.append([*row, f"{time['median'] / times[unit]['median']:.2f}"] if unit else row)
    if unit:
        header.append(f"in steps of {unit}")
    goal = f"\n\nAimed at: {prose(result['goal'])}." if result.get("goal") else ""
    return f"""## {prose(result.get("title", name))}

{table(header, rows)}

{prose(machine["processor"])}, {machine["threads"]} threads, {machine["vector_units"]},
torch {machine["torch"]}, {times[first]["count"]} rounds.{goal}
"""


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"
