"""Where in NAS-Bench-Macro's table do the networks stand that `macro_proxyless` finds?

    python benchmarks/macro_study.py --data CIFAR10_FOLDER --table NAS_BENCH_MACRO_JSON --out runs/macro_study

Searches with each seed, freely and under a budget of multiply-adds, and compares what was found with random
choice, with the best of as many random networks as could be trained at the cost of the search, and with the
heaviest network. Each finished search is a JSON file in benchmarks/results; what has one is not searched
again, and a search that was stopped goes on, so the script can be started until all are there. Prints tables
of all results (Markdown).
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import nasframe
from nasframe.core import Prices, Task, price
from nasframe.recipe import Recipe, open_run, resume

RECIPE, TASK = "macro_proxyless", Task()
RESULTS = Path(__file__).parent / "results"
# the search alone: the found network is judged by the table, not by a training of its own
SEARCH_ALONE = ["retrain.trainer.max_steps=1", "data.test_limit=100", "trackers=[jsonl]"]
SETTINGS: Mapping[str, tuple[float | None, list[str]]] = {
    "free": (None, []),
    "60M": (60e6, ["search.cost=flops", "search.penalty={type: budget, max: 60 M}"]),
}
# training of one network of the table: 50 epochs of 50,000 images (train.py of the authors)
TABLE_IMAGES = 50 * 50_000
PASSES = 3  # a training pass costs a forward pass and a backward pass of twice as much
RANDOM_COUNTS = (1, 20, 100)


@dataclass(frozen=True)
class Network:
    """One network of the table: its key, mean test accuracy in percent, and multiply-adds."""

    key: str
    accuracy: float
    multiply_adds: int


@dataclass(frozen=True)
class Comparison:
    """What else one could have chosen among the networks that are allowed; accuracies in percent.

    Attributes:
        allowed: How many networks there are.
        best: The most accurate of them.
        heaviest: The one with the most multiply-adds, which a ranking by multiply-adds puts first.
        random: Expected accuracy of the best of N drawn uniformly, by N.
        kendall: Rank correlation (tau-b) of multiply-adds and accuracy.
    """

    allowed: int
    best: Network
    heaviest: Network
    random: dict[int, float]
    kendall: float


def compare(networks: Sequence[Network], counts: Iterable[int]) -> Comparison:
    """Compare by the table alone: every figure is exact, nothing is drawn."""
    return Comparison(
        allowed=len(networks),
        best=max(networks, key=lambda each: each.accuracy),
        heaviest=max(networks, key=lambda each: each.multiply_adds),
        random={count: expected_best([each.accuracy for each in networks], count) for count in counts},
        kendall=kendall([each.multiply_adds for each in networks], [each.accuracy for each in networks]),
    )


def expected_best(values: Sequence[float], count: int) -> float:
    """Expected largest of `count` independent uniform draws."""
    ordered, total = sorted(values), len(values)
    return sum(
        value * ((index / total) ** count - ((index - 1) / total) ** count)
        for index, value in enumerate(ordered, start=1)
    )


def kendall(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two equally long sequences."""
    x, y = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    signs_x, signs_y = torch.sign(x[:, None] - x), torch.sign(y[:, None] - y)
    pairs = signs_x.abs().sum() * signs_y.abs().sum()
    return float((signs_x * signs_y).sum() / pairs.sqrt())


def rank(found: Network, networks: Sequence[Network]) -> int:
    """1 for the best; equally accurate ones share a rank."""
    return 1 + sum(each.accuracy > found.accuracy for each in networks)


def read_networks(table: Path) -> list[Network]:
    """The networks of the table, which `nas_bench_macro` checks whenever a search begins."""
    entries = json.loads(table.read_text(encoding="utf-8"))
    return [Network(key, entry["mean_acc"], entry["flops"]) for key, entry in entries.items()]


def finished_run(recipe: Recipe, folder: Path) -> nasframe.Run:
    """The run in `folder`: as it is when finished, resumed when begun, else started."""
    status = folder / "status.json"
    if not status.exists():
        return nasframe.run(recipe, out=folder)
    done = json.loads(status.read_text(encoding="utf-8"))["ended"] == "done"
    return open_run(folder) if done else resume(folder)


def search_cost(run: nasframe.Run, recipe: Recipe) -> float:
    """Multiply-adds of a search, by the candidates' weights after each epoch.

    A weight step costs a training pass of the expected path. An alpha step costs two passes of it, for
    no gradient of a weight is needed, and a forward pass of every candidate.
    """
    prices = price(recipe.space(TASK), TASK, nasframe.registries["costs"]["flops"]())
    trainer, algorithm = recipe.search.trainer.settings, recipe.search.algorithm.settings
    given = recipe.data.settings["train_limit"] or 50_000
    valid = round(given * recipe.search.valid_fraction)
    images = (given - valid) // trainer["batch_size"] * trainer["batch_size"]
    total = 0.0
    for line in (run.folder / "search" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        expected = _expected(prices, record)
        total += PASSES * expected * images
        if record["step"] > algorithm["warmup_epochs"]:
            total += (2 * expected + _of_all(prices)) * images / algorithm["alpha_every"]
        total += prices.of(run.genotype) * valid
    return total


def _expected(prices: Prices, record: Mapping[str, float]) -> float:
    weights = {
        choice: torch.tensor([record[f"alphas/{choice}/{name}"] for name in candidates], dtype=torch.float64)
        for choice, candidates in prices.choices.items()
    }
    return float(prices.expected(weights))


def _of_all(prices: Prices) -> float:
    """A forward pass of every candidate."""
    return prices.fixed + sum(
        each.fixed for candidates in prices.choices.values() for each in candidates.values()
    )


def result_of(setting: str, seed: int, recipe: Recipe, run: nasframe.Run, networks: list[Network]) -> Any:
    """What is kept of a search, as plain data; no path of the machine is in it."""
    limit, overrides = SETTINGS[setting]
    found = network_of(recipe, run, networks)
    allowed = [each for each in networks if limit is None or each.multiply_adds <= limit]
    cost = search_cost(run, recipe)
    trainings = cost / (PASSES * TABLE_IMAGES * sum(each.multiply_adds for each in networks) / len(networks))
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    environment.pop("command")
    lines = (run.folder / "search" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "recipe": RECIPE,
        "overrides": [*SEARCH_ALONE, *overrides],
        "setting": setting,
        "seed": seed,
        "found": asdict(found),
        "allowed": found in allowed,
        "rank": rank(found, allowed),
        "ranks_by_epoch": [json.loads(line)["search/true_rank"] for line in lines],
        "search_multiply_adds": cost,
        "same_cost_trainings": trainings,
        "comparison": asdict(compare(allowed, sorted({*RANDOM_COUNTS, max(1, int(trainings))}))),
        "seconds": json.loads((run.folder / "status.json").read_text(encoding="utf-8"))["seconds"]["search"],
        "environment": environment,
    }


def network_of(recipe: Recipe, run: nasframe.Run, networks: Iterable[Network]) -> Network:
    """The network that a run found."""
    space: Any = recipe.space(TASK)
    key = space.key(run.genotype)
    return next(each for each in networks if each.key == key)


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as tables: what was found, then what else could have been chosen."""
    rows = [_row("setting", "seed", "found", "accuracy", "rank", "below the best", "multiply-adds", "search")]
    rows.append(_row(*["---"] * 8))
    for result in results:
        found, comparison = result["found"], result["comparison"]
        rows.append(
            _row(
                result["setting"],
                str(result["seed"]),
                found["key"],
                f"{found['accuracy']:.2f} %",
                f"{result['rank']:,} of {comparison['allowed']:,}"
                if result["allowed"]
                else "over the budget",
                f"{comparison['best']['accuracy'] - found['accuracy']:.2f}",
                f"{found['multiply_adds'] / 1e6:.1f} M",
                f"{result['seconds'] / 60:.0f} min, {result['same_cost_trainings']:.2f} trainings",
            )
        )
    rows += ["", _row("setting", "best", "heaviest", "τ of multiply-adds", *map(_best_of, RANDOM_COUNTS))]
    rows.append(_row(*["---"] * (4 + len(RANDOM_COUNTS))))
    for setting, group in itertools.groupby(results, key=lambda result: result["setting"]):
        comparison = next(group)["comparison"]
        named = [comparison[name] for name in ("best", "heaviest")]
        rows.append(
            _row(
                setting,
                *(f"{each['key']}, {each['accuracy']:.2f} %" for each in named),
                f"{comparison['kendall']:.3f}",
                *(f"{comparison['random'][str(count)]:.2f} %" for count in RANDOM_COUNTS),
            )
        )
    return "\n".join(rows) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _best_of(count: int) -> str:
    return "one at random" if count == 1 else f"best of {count}"


def read_results() -> list[dict[str, Any]]:
    """All results that there are, by setting and seed."""
    paths = RESULTS.glob(f"{RECIPE}-*.json")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return sorted(results, key=lambda result: (list(SETTINGS).index(result["setting"]), result["seed"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Search what was not searched yet, then print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10's Parquet files")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-Macro's JSON file")
    parser.add_argument("--out", type=Path, default=Path("runs/macro_study"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    options = parser.parse_args(arguments)

    networks = read_networks(options.table)
    attached = f"search.benchmark={{type: nas_bench_macro, path: {json.dumps(str(options.table.resolve()))}}}"
    here = [f"data.path={options.data.resolve()}", attached]
    for setting, seed in itertools.product(options.settings, options.seeds):
        target = RESULTS / f"{RECIPE}-{setting}-{seed}.json"
        if target.exists():
            continue
        recipe = nasframe.load_recipe(RECIPE, [*SEARCH_ALONE, *SETTINGS[setting][1], *here, f"seed={seed}"])
        run = finished_run(recipe, options.out / f"{setting}-{seed}")
        result = result_of(setting, seed, recipe, run, networks)
        target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{setting}, seed {seed}: {result['found']}, rank {result['rank']}", flush=True)
    print(markdown(read_results()))


if __name__ == "__main__":
    main()
