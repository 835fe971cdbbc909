"""The results of a study as one page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from nasframe.core.storage import write_whole
from nasframe.pages.page import rendered

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 26, 12, 40
_ROW: Final = 30
_LABEL: Final = 190


def write_page(path: Path, found: Mapping[str, Any]) -> None:
    """Write a page that needs no network and no script.

    Args:
        path: The file.
        found: What ``study.json`` has.
    """
    write_whole(path, rendered("study", "study.html", view(found)))


def view(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows, in its order."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for item in found["checklist"]:
        parts.setdefault(item["part"], []).append(item)
    return {
        "name": found["name"],
        "state": state_of(found),
        "complete": found["complete"],
        "budget": budget_of(found),
        "seeds": ", ".join(map(str, found["seeds"])),
        "level": f"{found['level']:.0%}",
        "settings": [_setting(name, each) for name, each in found["settings"].items()],
        "failures": found["failures"],
        "checklist": parts,
        "environments": found["environments"],
    }


def state_of(found: Mapping[str, Any]) -> str:
    """How far the study is, in a sentence."""
    count = found["trials"]
    failed = f", {count['failed']} failed" if count["failed"] else ""
    if found["complete"]:
        return f"All {count['planned']} trials have ended{failed}."
    return (
        f"Not complete: {count['done']} of {count['planned']} trials are done{failed}. A method has figures "
        "where all of its trials have ended; start the study again to go on."
    )


def budget_of(found: Mapping[str, Any]) -> str:
    """The budget in words."""
    ((unit, amount),) = found["budget"].items()
    return f"{amount:g} {unit}"


def table_of(setting: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each method and baseline, the best first, as text; what has no figures yet comes last."""
    rows = sorted(_rows(setting), key=lambda row: -row[0])
    return [row for _, row in rows]


def _rows(setting: Mapping[str, Any]) -> Iterator[tuple[float, dict[str, str]]]:
    facts, count = setting["facts"], setting["facts"]["count"]
    for each in setting["methods"]:
        accuracy = each.get("accuracy")
        found = [trial["rank"] for trial in each["trials"] if trial["rank"] is not None]
        row = {
            "method": each["method"],
            "accuracy": "not known yet" if accuracy is None else percent(accuracy),
            "trials": f"{each['done']} of {each['planned']}",
            "rank": ", ".join(f"{rank:,}" for rank in found) if accuracy else "",
            "random": signed(each.get("over_random_architecture")),
            "search": signed(each.get("over_random_search")),
            "kendall": plain(each.get("kendall"), "{:.2f}"),
            "seconds": plain(each.get("search_seconds"), "{:,.0f}"),
            "budget": _budget(each),
        }
        yield (-math.inf if accuracy is None else accuracy["mean"]), row
    if "random" not in facts:
        return
    known = [
        (f"best of {n} random" if int(n) > 1 else "a random one", value)
        for n, value in facts["random"].items()
    ]
    known.append(("most multiply-adds", facts["heaviest"]["accuracy"]))
    known.append(("the best there is", facts["best"]["accuracy"]))
    ranks = {"most multiply-adds": f"{facts['heaviest']['rank']:,}", "the best there is": "1"}
    kendalls = {"most multiply-adds": "" if facts["kendall"] is None else f"{facts['kendall']:.2f} of all"}
    below = facts["random"]["1"]
    exact = "by the table" if facts["are_all"] else f"of {count:,} drawn"
    for name, value in known:
        row = {
            "method": name,
            "accuracy": f"{value:.2%}",
            "trials": exact,
            "rank": ranks.get(name, ""),
            "random": f"{100 * (value - below) / below:+.2f}",
            "search": "",
            "kendall": kendalls.get(name, ""),
            "seconds": "",
            "budget": "",
        }
        yield value, row


def _budget(summary: Mapping[str, Any]) -> str:
    told = [trial for trial in summary["trials"] if trial["epochs"] is not None]
    if not told or not summary["budget"]:
        return ""
    evaluations = f", {told[0]['evaluations']:,} scores" if told[0]["evaluations"] else ""
    return f"{told[0]['epochs']} epochs{evaluations}"


def percent(estimate: Mapping[str, Any]) -> str:
    """An accuracy with its interval."""
    if estimate["low"] is None:
        return f"{estimate['mean']:.2%}"
    return f"{estimate['mean']:.2%} ± {100 * (estimate['high'] - estimate['mean']):.2f}"


def signed(estimate: Mapping[str, Any] | None) -> str:
    """An improvement in percent with its interval."""
    if estimate is None:
        return ""
    if estimate["low"] is None:
        return f"{estimate['mean']:+.2f}"
    return f"{estimate['mean']:+.2f} ± {estimate['high'] - estimate['mean']:.2f}"


def plain(estimate: Mapping[str, Any] | None, spelling: str) -> str:
    """Another estimate with its interval."""
    if estimate is None:
        return ""
    text = spelling.format(estimate["mean"])
    if estimate["low"] is None:
        return text
    return f"{text} ± {spelling.format(estimate['high'] - estimate['mean'])}"


def _setting(name: str, setting: Mapping[str, Any]) -> dict[str, Any]:
    names = [each["method"] for each in setting["methods"]]
    colors = {method: index for index, method in enumerate(names)}
    by_table = "random" in setting["facts"]
    return {
        "name": name,
        "judged_by": setting["judged_by"],
        "count": f"{setting['facts']['count']:,}",
        "are_all": setting["facts"]["are_all"],
        "by_table": by_table,
        "clock": "of the processor" if setting["clock"] == "processor" else "that passed",
        "heaviest": setting["facts"]["heaviest"],
        "rows": table_of(setting),
        "has_kendall": any(row["kendall"] for row in table_of(setting)),
        "dots": _dots(setting, colors),
        "curves": _curves(setting, colors),
    }


@final
@dataclass(frozen=True)
class Dot:
    """A method's row in the picture: mean, interval and each trial, as places."""

    name: str
    color: int
    y: int
    mean: float
    low: float
    high: float
    trials: tuple[float, ...]


@final
@dataclass(frozen=True)
class Picture:
    """What a template draws in a box; `ticks` are (place, label)."""

    height: int
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...] = ()
    dots: tuple[Dot, ...] = ()
    lines: tuple[tuple[int, str, str], ...] = ()
    mark: tuple[float, str] | None = None
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = 0


def _dots(setting: Mapping[str, Any], colors: Mapping[str, int]) -> Picture | None:
    """Accuracies of the methods that have figures, the best first."""
    shown = [each for each in setting["methods"] if each.get("accuracy")]
    if not shown:
        return None
    shown.sort(key=lambda each: -each["accuracy"]["mean"])
    random = setting["facts"].get("random", {}).get("1")
    values = [trial["accuracy"] for each in shown for trial in each["trials"]]
    values += [end for each in shown for end in _ends(each["accuracy"])]
    values += [] if random is None else [random]
    ticks = _ticks(min(values), max(values))
    place = _Scale(ticks[0], ticks[-1], _LABEL, WIDTH - _RIGHT)
    dots = []
    for index, each in enumerate(shown):
        mean, (low, high) = place(each["accuracy"]["mean"]), map(place, _ends(each["accuracy"]))
        trials = tuple(place(trial["accuracy"]) for trial in each["trials"])
        y = _TOP + _ROW // 2 + index * _ROW
        dots.append(Dot(each["method"], colors[each["method"]], y, mean, low, high, trials))
    bottom = _TOP + len(shown) * _ROW
    return Picture(
        height=bottom + _BOTTOM,
        x_ticks=tuple((place(tick), f"{100 * tick:.6g} %") for tick in ticks),
        dots=tuple(dots),
        mark=None if random is None else (place(random), "a random one"),
        left=_LABEL,
        bottom=bottom,
    )


def _ends(accuracy: Mapping[str, Any]) -> tuple[float, float]:
    """Of an accuracy's interval, as far as there can be accuracies."""
    if accuracy["low"] is None:
        return accuracy["mean"], accuracy["mean"]
    return max(accuracy["low"], 0.0), min(accuracy["high"], 1.0)


def _curves(setting: Mapping[str, Any], colors: Mapping[str, int]) -> Picture | None:
    """What each search would have returned, over its seconds: the mean of the seeds that got so far."""
    found = {
        each["method"]: [trial["curve"] for trial in each["trials"] if trial["curve"]]
        for each in setting["methods"]
        if each.get("accuracy")
    }
    found = {name: curves for name, curves in found.items() if curves}
    if not found:
        return None
    means = {name: mean_curve(curves) for name, curves in found.items()}
    values = [value for points in means.values() for _, value in points]
    longest = max(second for points in means.values() for second, _ in points)
    x_ticks, y_ticks = _ticks(0.0, longest), _ticks(min(values), max(values))
    across = _Scale(x_ticks[0], x_ticks[-1], _LEFT, WIDTH - _RIGHT)
    up = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    lines = [(colors[name], name, _steps(points, across, up)) for name, points in means.items()]
    return Picture(
        height=HEIGHT,
        x_ticks=tuple((across(tick), f"{tick:.6g} s") for tick in x_ticks),
        y_ticks=tuple((up(tick), f"{100 * tick:.6g} %") for tick in y_ticks),
        lines=tuple(lines),
        bottom=HEIGHT - _BOTTOM,
    )


def mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """The mean over trials of what each would return at a time, from when all have something to return."""
    start = max(curve[0][0] for curve in curves)
    times = sorted({second for curve in curves for second, _ in curve if second >= start})
    return [(time, sum(_at(curve, time) for curve in curves) / len(curves)) for time in times]


def _at(curve: Sequence[Sequence[float]], time: float) -> float:
    return [value for second, value in curve if second <= time][-1]


def _steps(points: Sequence[tuple[float, float]], across: "_Scale", up: "_Scale") -> str:
    """A line that keeps a value until the next one."""
    path, before = [], None
    for second, value in points:
        x, y = across(second), up(value)
        if before is not None:
            path.append(f"{x:g},{before:g}")
        path.append(f"{x:g},{y:g}")
        before = y
    return " ".join(path)


@final
@dataclass(frozen=True)
class _Scale:
    """From values to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = low - 0.01, high + 0.01
    return [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
