"""How long the command line takes to answer: its help, and whether each shipped recipe is valid.

    python benchmarks/startup.py

Each command runs in a process of its own, once to warm the file cache and then --repeats times. Run it on a
quiet machine; the load before it began is written down with the result.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nasframe
from nasframe.recipe.discovery import shipped_recipes


def seconds(arguments: Sequence[str]) -> float:
    """Wall time of one command, which must succeed."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nasframe", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="of each command (default 5)")
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    options = parser.parse_args(arguments)
    measured = {
        "nasframe": nasframe.__version__,
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "processor_cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "seconds": {},
    }
    for command in (["--help"], *(["validate", name] for name in shipped_recipes())):
        seconds(command)
        times = sorted(seconds(command) for _ in range(options.repeats))
        measured["seconds"][" ".join(command)] = [round(each, 3) for each in times]
        print(f"{statistics.median(times):7.2f} s  nasframe {' '.join(command)}", flush=True)
    options.result.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
