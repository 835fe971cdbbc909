"""How well does the sum of prices predict the latency of a network, on this device?

    python benchmarks/latency_prediction.py [--runtime onnx]

Draws random architectures of the spaces `macro` and `mobile` (with `onnx`: of the recipe `photos_latency`),
predicts each by the prices that a search uses (each part timed alone), and times each whole network, in
rounds. Prints the rank correlation (Spearman), the range of latencies and the error, and writes a JSON file
into benchmarks/results. Run it on a quiet machine.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

import nasframe
from nasframe.core import Space, Task, generator_for, price

PHOTOS = nasframe.load_recipe("photos_latency", check=False).space
SPACES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "torch": {"macro": {}, "mobile": {"stem": "cifar"}},
    "onnx": {PHOTOS.name: PHOTOS.settings},
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=30, help="how many are drawn (default 30)")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images (default 32)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default 1)")
    parser.add_argument("--rounds", type=int, default=11, help="in which each network is timed (default 11)")
    parser.add_argument("--runtime", choices=list(SPACES), default="torch", help="that runs them")
    parser.add_argument("--result", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    task = Task(input_shape=(3, options.size, options.size))
    results = {}
    for name, settings in SPACES[options.runtime].items():
        space = nasframe.registries["spaces"][name](task, **settings)
        results[name] = compare(space, task, options.networks, options.rounds, options.runtime)
        measured = results[name]["measured_ms"]
        print(
            f"{name}: {options.networks} networks, {min(measured):.3g} to {max(measured):.3g} ms, "
            f"Spearman {results[name]['spearman']:.3f}, median error {results[name]['median_error']:.1%}"
        )
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    about = {"size": options.size, "threads": options.threads, "load_before": load, "versions": versions}
    suffix = "" if options.runtime == "torch" else f"_{options.runtime}"
    result = options.result or RESULTS / f"latency_prediction{suffix}.json"
    result.write_text(json.dumps({**about, "spaces": results}, indent=2) + "\n", encoding="utf-8")


def compare(space: Space, task: Task, num_networks: int, rounds: int, runtime: str) -> dict[str, Any]:
    """Predicted and measured latencies of random networks, and how well one tells the other."""
    latency = partial(nasframe.registries["costs"]["latency"], runtime=runtime)
    prices = price(space, task, latency(repeats=100))
    generator = generator_for(0, "latency_prediction")
    genotypes = [nasframe.sample(space, generator) for _ in range(num_networks)]
    predicted = [prices.of(genotype) for genotype in genotypes]
    networks = [nasframe.derived(space, genotype) for genotype in genotypes]
    times = [latency().of_each(networks, task) for _ in range(rounds)]
    measured = [statistics.median(each) for each in zip(*times, strict=True)]
    ratios = [one / other for one, other in zip(predicted, measured, strict=True)]
    errors = [abs(one / other - 1) for one, other in zip(predicted, measured, strict=True)]
    return {
        "spearman": float(spearmanr(predicted, measured).statistic),
        "median_error": statistics.median(errors),
        "ratios": {"smallest": min(ratios), "median": statistics.median(ratios), "largest": max(ratios)},
        "measured_ms": measured,
        "predicted_ms": predicted,
    }


if __name__ == "__main__":
    main()
