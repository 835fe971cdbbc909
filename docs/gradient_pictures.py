"""Draw second_order.md's pictures from benchmarks/results:  python docs/gradient_pictures.py docs/images."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
COLORS = {
    "exact": "#1f5fa8", "central 0.1": "#2a8f5b", "central 0.01": "#c4542d", "central 0.001": "#8a3b7a",
    "first order": "#6b6b6b",
}  # fmt: skip
LABELS = {"central 0.01": "difference, ε‖v‖ = 0.01", "central 0.1": "difference, ε‖v‖ = 0.1"}
Results = Sequence[Mapping[str, Any]]


def draw_epsilon(results: Results, folder: Path) -> None:
    """Error of the central difference by its length: the network as it is, and its twins."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axis, result in zip(axes, results, strict=True):
        look = result["close_look"]
        _errors(axis, look["float64"], "as it is, float64", color="#c4542d", marker="o")
        _errors(axis, look["float32"], "as it is, float32", color="black", marker="x", linestyle="none")
        _errors(
            axis, look["twins"]["kinks of ReLUs alone"], "kinks of ReLUs alone", color="#8a3b7a", marker="^"
        )
        _errors(
            axis,
            look["twins"]["kinks of max pools alone"],
            "kinks of max pools alone",
            color="#b08a1e",
            marker="v",
        )
        _errors(axis, look["twins"]["smooth"], "smooth twin", color="#1f5fa8", marker="s")
        lengths = [each for each in look["float64"]["epsilons"] if 1e-4 <= each <= 0.1]
        middle = look["float64"]["central"][look["float64"]["epsilons"].index(0.01)]["error"]
        axis.plot(lengths, [2.2 * middle * (each / 0.01) ** -0.5 for each in lengths], color="#6b6b6b",
                  linestyle=":", label="slope −1/2")  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="ε‖v‖, length of the step in weights")
        axis.set_title(f"after {result['step']} steps" if result["step"] else "at initialization", loc="left")
        _plain(axis)
    axes[0].set_ylabel("error / length of the exact product")
    _legend(figure, axes[0])
    _save(figure, folder / "second_order_epsilon.svg")


def _errors(axis: Axes, curve: Mapping[str, Any], label: str, **style: Any) -> None:
    errors = [each["error"] for each in curve["central"]]
    axis.plot(curve["epsilons"], errors, label=label, markersize=5, linewidth=1.5, **style)


def draw_training(results: Results, folder: Path) -> None:
    """Over the steps: how much the product is, and how near single gradients are to the exact one."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    share, cosine = figure.subplots(1, 2)
    for index, search in enumerate(_searches(results)):
        steps = [max(each["step"], 10) for each in search]
        style = {"marker": "o", "markersize": 4, "linewidth": 1.5, "alpha": 1.0 if index == 0 else 0.6}
        for name in ("exact", "central 0.1", "central 0.01"):
            values = [each["one_pair"]["product_share"][name] for each in search]
            share.plot(steps, values, color=COLORS[name], label=_label(name, index), **style)
        for name in ("first order", "central 0.1", "central 0.01"):
            values = [1 - each["one_pair"]["gradients"][name]["cosine"] for each in search]
            cosine.plot(steps, values, color=COLORS[name], label=_label(name, index), **style)
    share.set_title("length of the product / length of the gradient", loc="left")
    cosine.set_title("1 − cosine with the exact gradient", loc="left")
    for axis in (share, cosine):
        axis.set(xscale="log", xlabel="steps of the search")
        axis.set_ylim(bottom=0)
        ticks = sorted({max(each["step"], 10) for each in results})
        axis.set_xticks(ticks, ["0" if each == 10 else str(each) for each in ticks])
        axis.minorticks_off()
        _plain(axis)
    _legend(figure, share, cosine)
    _save(figure, folder / "second_order_training.svg")


def draw_means(results: Results, folder: Path) -> None:
    """Means over batches: the exact product along the difference's mean, and what one batch is off by."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    share, error = figure.subplots(1, 2)
    places = range(len(results))
    for place, result in zip(places, results, strict=True):
        many = result["many_batches"]["expected"]
        _interval(share, place, many["exact"]["share"], COLORS["exact"], "exact" if place == 0 else None)
        for shift, name in zip((-0.2, 0.0, 0.2), ("exact", "central 0.1", "central 0.01"), strict=True):
            figure_of = {
                key: None if each is None else max(each, 0) ** 0.5
                for key, each in many[name]["error"].items()
            }
            _interval(error, place + shift, figure_of, COLORS[name], _label(name, place))
    share.axhline(1, color=COLORS["central 0.01"], linewidth=1.5, label=_label("central 0.01", 0))
    share.set_title("mean, along that of the paper's difference", loc="left")
    share.set_ylim(bottom=0)
    error.set_title("what one batch is off by / length of the mean", loc="left")
    error.set_ylim(bottom=0)
    error.set_xlim(-0.5, len(results) - 0.5)
    for axis in (share, error):
        axis.set_xticks(places, [f"{each['step']}\nseed {each['seed']}" for each in results])
        axis.set_xlabel("steps of the search")
        _plain(axis)
    _legend(figure, error)
    _save(figure, folder / "second_order_means.svg")


def _interval(
    axis: Axes, place: float, figure: Mapping[str, float | None], color: str, label: str | None
) -> None:
    value, lower, upper = (figure[key] for key in ("value", "lower", "upper"))
    if value is None:
        return
    below, above = (abs(value - each) if each is not None else 0 for each in (lower, upper))
    axis.errorbar(
        place, value, [[below], [above]], color=color, marker="o", capsize=4, linestyle="none", label=label
    )


def _label(name: str, index: int) -> str | None:
    return LABELS.get(name, name) if index == 0 else None


def _searches(results: Results) -> Iterable[Results]:
    seeds = sorted({each["seed"] for each in results})
    return ([each for each in results if each["seed"] == seed] for seed in seeds)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def _legend(figure: Figure, *axes: Axes) -> None:
    named = {
        label: handle
        for each in axes
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        named.values(), named.keys(), loc="outside upper center", ncols=3, frameon=False, fontsize=9
    )


def _save(figure: Figure, path: Path) -> None:
    """On white, for pages may be dark; the same file from the same figures."""
    with mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    paths = sorted(RESULTS.glob("gradient_question-*.json"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    results.sort(key=lambda each: (each["setting"], each["seed"], each["step"]))
    searched = [each for each in results if each["setting"] == "smaller"]
    draw_epsilon([each for each in searched if each["close_look"]], folder)
    draw_training(searched, folder)
    draw_means([each for each in searched if each["many_batches"]], folder)
