"""Compare a recipe's search with random architectures of its space, retrained with the same budget.

    python benchmarks/random_baseline.py recipes/digits_darts.yaml --count 8 --out runs/random_baseline

Each run has a folder of its own below --out; runs that are finished there are not run again, so the script
goes on where it was stopped. The result is one JSON file.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import nasframe
from nasframe.recipe import Recipe, open_run, resume


def finished_run(recipe: Recipe, folder: Path) -> nasframe.Run:
    """The run in `folder`: as it is when finished, resumed when begun, else started."""
    status = folder / "status.json"
    if not status.exists():
        return nasframe.run(recipe, out=folder)
    done = json.loads(status.read_text(encoding="utf-8"))["ended"] == "done"
    return open_run(folder) if done else resume(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, compare, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--count", type=int, default=8, help="random architectures (default 8)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the search (default 0)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--result", type=Path, help="JSON file (default OUT/result.json)")
    options = parser.parse_args(arguments)

    searched = {}
    for seed in options.seeds:
        recipe = nasframe.load_recipe(options.recipe, [*options.overrides, f"seed={seed}"])
        searched[seed] = finished_run(recipe, options.out / f"search-{seed}")
        print(f"search, seed {seed}: {searched[seed].metrics['test_accuracy']:.4f}", flush=True)

    recipe = nasframe.load_recipe(options.recipe, options.overrides)
    space = recipe.space(recipe.data().task)
    explorer = nasframe.registries["explorers"]["random_search"](space, 0)
    drawn = []
    for index in range(options.count):
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"random-{index}.json"
        explorer.ask().save(path)
        fixed = nasframe.load_recipe(options.recipe, [*options.overrides, f"genotype={path.resolve()}"])
        drawn.append(finished_run(fixed, options.out / f"random-{index}"))
        print(f"random {index}: {drawn[-1].metrics['test_accuracy']:.4f}", flush=True)

    random_accuracies = [run.metrics["test_accuracy"] for run in drawn]
    result = {
        "recipe": Path(options.recipe).name,
        "overrides": options.overrides,
        "searched": {
            str(seed): {
                "test_accuracy": run.metrics["test_accuracy"],
                "parameters": run.metrics["parameters"],
            }
            for seed, run in searched.items()
        },
        "random": [
            {"test_accuracy": run.metrics["test_accuracy"], "parameters": run.metrics["parameters"]}
            for run in drawn
        ],
        "random_median": statistics.median(random_accuracies),
        "random_best": max(random_accuracies),
        "environment": json.loads((next(iter(searched.values())).folder / "environment.json").read_text()),
    }
    for key in ("command", "git"):
        result["environment"].pop(key, None)
    target = options.result or options.out / "result.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"random median {result['random_median']:.4f}, best {result['random_best']:.4f}; wrote {target}")


if __name__ == "__main__":
    main()
