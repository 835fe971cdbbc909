"""Which second-order gradient of DARTS is right: the finite difference's, or the exact product's?

    python benchmarks/gradient_question.py --data CIFAR10_FOLDER --out runs/gradient_question

Trains the first steps of `cifar_darts` on a small supernet, first order, and asks at some of them, in
float64: what central and one-sided differences of several lengths give on the same pairs of batches as double
backward; what each gives on average over many batches, and how far one batch is from that; what float32
changes; and what remains on smooth twins of the network. Each point of a search is a JSON file in
benchmarks/results. What was computed before is taken from `--out`, so the script can be stopped, and started
again with more seeds, steps, pairs or batches. Prints tables of all results (Markdown).
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

import nasframe
from alpha_gradients import AlphaGradients, MixedProduct, flat, mean_v, smoothed
from between_batches import Draws, Estimate, estimate, mean_of
from early_search import OVERRIDES, EarlySearch, Pairs
from measuring import machine, write_json
from nasframe.core import Dataset
from nasframe.recipe import Recipe

RECIPE = "cifar_darts"
RESULTS = Path(__file__).parent / "results"
SETTINGS: Mapping[str, list[str]] = {"small": [], "smaller": ["space.cells=3", "space.nodes=2"]}
PAPERS = 0.01
EPSILONS = (0.1, PAPERS, 0.001)
SORTS = ("central", "one-sided")
CLOSE_EPSILONS = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-7, 1e-9)
OTHER_EPSILONS = CLOSE_EPSILONS[:3]  # of float32 and twins
TWINS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "smooth": smoothed,
    "kinks of max pools alone": lambda: smoothed(max_pool=False),
    "kinks of ReLUs alone": lambda: smoothed(relu=False),
}
HELD_OUT_BATCHES = 16  # that v is averaged over where products are
DIRECTION_BATCHES = 8  # that tell the direction in which the others are asked
DELTA = 0.2  # to both sides along it, of alphas
Vectors = dict[str, torch.Tensor]


def name_of(epsilon: float, sort: str = "central") -> str:
    """What a difference is called in results."""
    return f"{sort} {epsilon:g}"


DIFFERENCES = tuple(name_of(epsilon, sort) for sort in SORTS for epsilon in EPSILONS)
PRODUCTS = ("exact", *DIFFERENCES)
AVERAGED = ("exact", name_of(0.1), name_of(PAPERS))
REFERENCE = name_of(PAPERS)  # of which the smooth twin shows that curvature hardly matters
DIRECTION = name_of(0.1)  # the least noisy one tells where to look


@dataclass(frozen=True)
class Point:
    """A search after some steps.

    Args:
        recipe: The search.
        data: What it searches on.
        step: How many steps it has taken.
        folder: Where it is kept, with what was computed there.
    """

    recipe: Recipe
    data: Dataset
    step: int
    folder: Path

    def reach(self) -> None:
        """Train up to here from the last point that is kept, and keep this one."""
        kept = [int(path.name.split("-")[0]) for path in self.folder.glob("*-search.pt")]
        search = EarlySearch(self.recipe, self.data)
        if before := [step for step in kept if step <= self.step]:
            search.load(self._path(max(before)))
        search.train(self._pairs, self.step)
        search.save(self._path(self.step))

    def search(self, dtype: torch.dtype = torch.float64, *, fused: bool = True) -> EarlySearch:
        """The search as it is here, in a dtype."""
        search = EarlySearch(self.recipe, self.data, dtype, fused=fused)
        search.load(self._path(self.step))
        return search

    def pair(self, index: int, purpose: str = "gradients") -> tuple[nasframe.Batch, nasframe.Batch]:
        """A pair of batches that the search has not met in this order."""
        return next(self._pairs.drawn(purpose, str(self.step), start=index))

    def kept(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, computed once: tensors by name."""
        path = self.folder / f"{self.step}-{name}.pt"
        if not path.exists():
            torch.save(compute(), path)
        return torch.load(path, weights_only=True)

    @property
    def _pairs(self) -> Pairs:
        return Pairs(self.recipe, self.data)

    def _path(self, step: int) -> Path:
        return self.folder / f"{step}-search.pt"


# One pair of batches: what an alpha step would use -----------------------------------------------------


def of_pairs(point: Point, count: int) -> dict[str, Any]:
    """What single pairs of batches give, against the exact product and gradient of the same pair."""
    search = point.search()

    def compute(index: int) -> Vectors:
        gradients = AlphaGradients(search, *point.pair(index))
        product = gradients.product
        return {
            "before": gradients.before_step,
            "after": gradients.after_step,
            "exact": product.exact(),
            **{name_of(each): product.central(each) for each in EPSILONS},
            **{name_of(each, "one-sided"): product.one_sided(each) for each in EPSILONS},
        }

    found = [point.kept(f"pair-{index}", lambda index=index: compute(index)) for index in range(count)]
    stacked = {name: torch.stack([each[name] for each in found]) for name in found[0]}
    after, exact = stacked["after"], stacked["exact"]
    whole = {"first order": stacked["before"], **{name: after - stacked[name] for name in PRODUCTS}}
    draws = Draws(whole)
    return {
        "pairs": count,
        "product_share": {name: _median(stacked[name].norm(dim=1) / after.norm(dim=1)) for name in PRODUCTS},
        "products": {name: _medians(stacked[name], exact) for name in DIFFERENCES},
        "gradients": {name: _medians(whole[name], whole["exact"]) for name in ("first order", *DIFFERENCES)},
        "expected_gradient": {
            name: _standing(draws, name, REFERENCE, ("single_cosine", "error", "bias")) for name in whole
        },
    }


def _medians(vectors: torch.Tensor, truths: torch.Tensor) -> dict[str, float]:
    each = [against(one, other) for one, other in zip(vectors, truths, strict=True)]
    return {name: statistics.median(one[name] for one in each) for name in each[0]}


def _median(values: torch.Tensor) -> float:
    return float(statistics.median(values.tolist()))


# Many training batches: the expected product -----------------------------------------------------------


def of_batches(point: Point, count: int) -> dict[str, Any]:
    """The product of the expected training loss along one v, the mean over held-out batches.

    In float32, of which `close_look` tells the error: noise is far larger.
    """
    search = point.search(torch.float32)
    v: Vectors = point.kept(
        "v", lambda: mean_v(search, [point.pair(index, "v")[1] for index in range(HELD_OUT_BATCHES)])
    )
    found: list[Vectors] = []
    for index in range(count):
        product = MixedProduct(search, point.pair(index, "batches")[0], v)
        found.append(point.kept(f"batch-{index}", lambda product=product: _averaged(product)))
    direction = torch.stack([each[DIRECTION] for each in found[:DIRECTION_BATCHES]]).mean(0)
    direction = direction / direction.norm()
    rest = found[DIRECTION_BATCHES:]
    along = {name: [float(each[name] @ direction) for each in rest] for name in AVERAGED}
    along["by alphas"] = [
        float(
            point.kept(
                f"along-{index}",
                lambda index=index: torch.tensor(
                    MixedProduct(search, point.pair(index, "batches")[0], v).by_alphas(direction, DELTA)
                ),
            )
        )
        for index in range(DIRECTION_BATCHES, count)
    ]
    draws = Draws({name: torch.stack([each[name] for each in found]) for name in AVERAGED})
    return {
        "batches": count,
        "expected": {
            name: _standing(draws, name, REFERENCE, ("cosine", "share", "bias", "error")) for name in AVERAGED
        },
        "along": {name: asdict(mean_of(values)) for name, values in along.items()},
        "along_less_exact": {
            name: asdict(mean_of([a - b for a, b in zip(values, along["exact"], strict=True)]))
            for name, values in along.items()
            if name != "exact"
        },
    }


def _averaged(product: MixedProduct) -> Vectors:
    return {
        "exact": product.exact(),
        **{name_of(each): product.central(each) for each in (0.1, PAPERS)},
    }


def _standing(draws: Draws, name: str, reference: str, figures: Sequence[str]) -> dict[str, Any]:
    def figure(key: str) -> Estimate:
        return estimate(draws, lambda each: getattr(each, key)(name, reference))

    return {key: asdict(figure(key)) for key in figures}


# One pair closely: length of the difference, precision, kinks -------------------------------------------


def close_look(point: Point) -> dict[str, Any]:
    """On the first pair of batches: how errors depend on epsilon, in float64, float32 and on smooth twins."""
    found: dict[str, Any] = point.kept("look", lambda: _close_look(point))
    return found


def _close_look(point: Point) -> dict[str, Any]:
    search, pair = point.search(), point.pair(0)
    in_float64, in_float32 = (AlphaGradients(each, *pair) for each in (search, point.search(torch.float32)))
    exact = in_float64.product.exact()
    return {
        "interface": _by_interface(search, pair, in_float64, exact),
        "float64": curve(in_float64.product, exact, CLOSE_EPSILONS),
        "float32": {
            "exact": against(in_float32.product.exact(), exact),
            **curve(in_float32.product, exact, OTHER_EPSILONS),
        },
        "crossed": [_crossed(point, in_float64.product.v, each) for each in OTHER_EPSILONS],
        "twins": dict(_twins(point.search(fused=False), pair)),
    }


def _by_interface(
    search: EarlySearch,
    pair: tuple[nasframe.Batch, nasframe.Batch],
    gradients: AlphaGradients,
    exact: torch.Tensor,
) -> dict[str, float]:
    """How far what `darts_bilevel` gives is from what is put together here, in lengths of it."""
    batches = [search.taken(each) for each in pair]
    alphas = dict(search.model.named_parameters_at("upper"))
    errors = {}
    for hessian, product in (("exact", exact), ("finite_difference", gradients.product.central(PAPERS))):
        algorithm = search.algorithm_with(order=2, hessian=hessian, epsilon=PAPERS)
        slopes = algorithm.upper_gradients(*batches, search.update)
        got = flat(dict(zip(alphas, slopes, strict=True)), alphas)
        errors[hessian] = against(got, gradients.after_step - product)["error"]
    return errors


def _crossed(point: Point, v: Vectors, epsilon: float) -> dict[str, float]:
    return MixedProduct(point.search(fused=False), point.pair(0)[0], v).crossed(epsilon)


def _twins(
    search: EarlySearch, pair: tuple[nasframe.Batch, nasframe.Batch]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, twin in TWINS.items():
        with twin():
            product = AlphaGradients(search, *pair).product
            yield name, curve(product, product.exact(), OTHER_EPSILONS)


def curve(product: MixedProduct, exact: torch.Tensor, epsilons: Sequence[float]) -> dict[str, Any]:
    """Both differences against the exact product at each epsilon."""
    return {
        "epsilons": list(epsilons),
        "central": [against(product.central(each), exact) for each in epsilons],
        "one-sided": [against(product.one_sided(each), exact) for each in epsilons],
    }


def against(vector: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """How a vector stands to the true one: cosine, ratio of lengths, error in lengths of the true one."""
    return {
        "cosine": float(cosine_similarity(vector, truth, dim=0)),
        "length": float(vector.norm() / truth.norm()),
        "error": float((vector - truth).norm() / truth.norm()),
    }


# All of it --------------------------------------------------------------------------------------------


def read_results() -> list[dict[str, Any]]:
    """All results that there are, by setting, seed and step."""
    paths = RESULTS.glob("gradient_question-*.json")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    order = list(SETTINGS)
    return sorted(results, key=lambda each: (order.index(each["setting"]), each["seed"], each["step"]))


Row = Sequence[str]


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The results as tables: one pair closely, single pairs, many batches."""
    looked, averaged = ([each for each in results if each[key]] for key in ("close_look", "many_batches"))
    return "\n".join(
        [
            *_table(
                ["network, seed, step", "ε‖v‖ = 0.1", "0.01", "0.001", "1e-5", "1e-7", "1e-9",
                 "float32, 0.01", "smooth twin, 0.1", "0.01", "signs crossed, 0.01"],
                [[_where(each), *_close(each["close_look"])] for each in looked],
            ),
            "",
            *_table(
                ["network, seed, step", "product in gradient", "difference's: cosine", "length",
                 "with 0.1: cosine", "length", "gradient: first order", "difference", "with 0.1"],
                [[_where(each), *_single(each["one_pair"])] for each in results],
            ),
            "",
            *_table(
                ["network, seed, step", "batches", "cosine of means", "length along it",
                 "difference, less exact", "by alphas, less exact", "error of one batch: exact",
                 "with 0.1", "difference"],
                [[_where(each), *_mean(each["many_batches"])] for each in averaged],
            ),
            "",
        ]
    )  # fmt: skip


def _table(head: Row, rows: Sequence[Row]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _where(result: Mapping[str, Any]) -> str:
    return f"{result['setting']}, {result['seed']}, {result['step']}"


def _close(look: Mapping[str, Any]) -> Iterator[str]:
    in_float64, smooth = (
        dict(zip(each["epsilons"], each["central"], strict=True))
        for each in (look["float64"], look["twins"]["smooth"])
    )
    for epsilon in (0.1, PAPERS, 0.001, 1e-5, 1e-7, 1e-9):
        yield f"{in_float64[epsilon]['error']:.2g}"
    yield f"{look['float32']['central'][OTHER_EPSILONS.index(PAPERS)]['error']:.2g}"
    yield from (f"{smooth[epsilon]['error']:.1g}" for epsilon in (0.1, PAPERS))
    crossed = look["crossed"][OTHER_EPSILONS.index(PAPERS)]
    yield f"{crossed['relu']:.1%} of ReLUs, {crossed['max_pool']:.1%} of max pools"


def _single(pairs: Mapping[str, Any]) -> Iterator[str]:
    yield f"{pairs['product_share']['exact']:.2g}"
    for name in (name_of(PAPERS), name_of(0.1)):
        yield from (f"{pairs['products'][name][key]:.2f}" for key in ("cosine", "length"))
    for name in ("first order", name_of(PAPERS), name_of(0.1)):
        yield f"{pairs['gradients'][name]['cosine']:.4f}"


def _mean(batches: Mapping[str, Any]) -> Iterator[str]:
    exact = batches["expected"]["exact"]
    yield f"{batches['batches']}"
    yield from (_interval(exact[key]) for key in ("cosine", "share"))
    scale = batches["along"]["exact"]["value"]
    for name in (REFERENCE, "by alphas"):
        yield _interval({key: value / scale for key, value in batches["along_less_exact"][name].items()})
    for name in AVERAGED:
        yield _interval(batches["expected"][name]["error"], digits=1)


def _interval(figure: Mapping[str, float | None], digits: int = 2) -> str:
    value, lower, upper = ("?" if each is None else f"{each:.{digits}f}" for each in figure.values())
    return f"{value} ({lower} to {upper})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, then print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10's Parquet files")
    parser.add_argument("--out", type=Path, default=Path("runs/gradient_question"), help="folder to work in")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 30, 100, 300])
    parser.add_argument("--pairs", type=int, default=8, help="pairs of batches at each point")
    parser.add_argument("--batches", type=int, default=24, help="batches that products are averaged over")
    parser.add_argument(
        "--no-look", action="store_true", help="leave out what depends on kinks and precision"
    )
    options = parser.parse_args(arguments)

    data: Dataset | None = None
    for setting in options.settings:
        for seed in options.seeds:
            folder = options.out / f"{setting}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            overrides = [*OVERRIDES, *SETTINGS[setting]]
            recipe = nasframe.load_recipe(
                RECIPE, [*overrides, f"data.path={options.data.resolve()}", f"seed={seed}"]
            )
            data = data or recipe.data()
            for step in sorted(options.steps):
                point = Point(recipe, data, step, folder)
                point.reach()
                result = {
                    "recipe": RECIPE,
                    "overrides": overrides,
                    "setting": setting,
                    "seed": seed,
                    "step": step,
                    "close_look": None if options.no_look else close_look(point),
                    "one_pair": of_pairs(point, options.pairs),
                    "many_batches": of_batches(point, options.batches) if options.batches else None,
                    "environment": machine(),
                }
                write_json(RESULTS / f"gradient_question-{setting}-{seed}-{step}.json", result)
                print(f"{setting}, seed {seed}, step {step}", flush=True)
    print(markdown(read_results()))


if __name__ == "__main__":
    main()
