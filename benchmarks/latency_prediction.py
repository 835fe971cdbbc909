"""How well does the sum of prices predict the latency of a network, on this device?

    python benchmarks/latency_prediction.py

Draws random architectures of the space `mobile`, predicts each by the prices that a search uses (each part
timed alone), and times each whole network. Prints the rank correlation (Spearman), the range of latencies and
the error, and writes a JSON file into benchmarks/results. Run it on a quiet machine.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy.stats import spearmanr

import nasframe
from nasframe.core import Task, generator_for, price

RESULT = Path(__file__).parent / "results" / "latency_prediction.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=30, help="how many are drawn (default 30)")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images (default 32)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default 1)")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    task = Task(input_shape=(3, options.size, options.size))
    space = nasframe.registries["spaces"]["mobile"](task, stem="cifar")
    latency = nasframe.registries["costs"]["latency"]
    prices = price(space, task, latency(repeats=100))
    whole = latency(repeats=100)  # a table of its own: nothing that was timed for the prices
    generator = generator_for(0, "latency_prediction")
    predicted, measured = [], []
    for _ in range(options.networks):
        genotype = nasframe.sample(space, generator)
        predicted.append(prices.of(genotype))
        measured.append(whole.of(nasframe.derived(space, genotype), task))
    errors = [abs(one / other - 1) for one, other in zip(predicted, measured, strict=True)]
    result = {
        "space": f"mobile, cifar stem, {options.size} x {options.size}",
        "spearman": float(spearmanr(predicted, measured).statistic),
        "measured_ms": measured,
        "predicted_ms": predicted,
        "median_error": statistics.median(errors),
        "threads": options.threads,
        "load_before": load,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    options.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"{options.networks} networks, {min(measured):.1f} to {max(measured):.1f} ms: Spearman "
        f"{result['spearman']:.3f}, median error {result['median_error']:.1%}"
    )


if __name__ == "__main__":
    main()
