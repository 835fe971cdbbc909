"""The report as one page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from nasframe.core import Report, reports
from nasframe.core.active import ActiveSetting, active_table
from nasframe.core.json_text import read_json_file
from nasframe.core.storage import write_whole
from nasframe.errors import FormatError
from nasframe.pages.baseline import table_of_baseline
from nasframe.pages.by_class import CLASS_HEADER, class_rows, matrix_of
from nasframe.pages.chart import HEIGHT, WIDTH, Chart, Point, Scatter, Series, chart, scatter, thinned
from nasframe.pages.cost import stages_of
from nasframe.pages.curve import by_figure, frames_of, heat_maps, numbered, strongest
from nasframe.pages.drawing import drawn, graph_from, strip
from nasframe.pages.measured import table_of
from nasframe.pages.other_seeds import told_of_seeds
from nasframe.pages.page import rendered
from nasframe.pages.words import duration, figure, figures_told, joules, plain, rate, short, spell
from nasframe.quantity import spell_bytes

_MOST_DOTS: Final = 500
_OWN_STUDY: Final = """\
name: against_random
budget: {{epochs: {epochs}}}
seeds: [0, 1, 2]
settings:
  same: {{recipe: recipe.yaml}}
methods:
  search: {{}}
"""


@reports.register("html")
@final
class Html(Report):
    """Writes ``report.html`` from ``report.json``: one file that needs no network.

    It shows the result in a sentence, class by class where there are some, the network that was found, the
    weights of the candidates over the epochs (with a script they play), learning curves, the search's health,
    what was traded off and against what, how random architectures do, what it cost, the recipe with the
    origin of each value, the environment, and the command that does it again. Without the script nothing is
    missing but the play.

    Raises:
        FormatError: ``report.json`` is absent or not what it must be.
    """

    def write(self, run_dir: Path) -> Path:
        content = _read(run_dir / "report.json")
        try:
            page = rendered("reports", "report.html", _view(content, run_dir))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise FormatError(
                f"{run_dir / 'report.json'}: must be what a finished run leaves: {error!r:.200}"
            ) from error
        path = run_dir / "report.html"
        write_whole(path, page)
        return path


def _read(path: Path) -> dict[str, Any]:
    content: Any = read_json_file(path, "finish the run with `nasframe resume`")
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise FormatError(f"{path}: must be an object with the run's `name`")
    return content


def _view(content: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """What the template shows, in its order; a part that is absent is left out."""
    alphas: Mapping[str, Mapping[str, Series]] = content.get("alphas", {})
    health_curves, curves = _parted(content.get("curves", {}))
    candidates = numbered(name for series in alphas.values() for name in series)
    splits = numbered(name for series in curves.values() for name in series)
    cells = numbered(name for series in health_curves.values() for name in series)
    seconds: Mapping[str, float] = content.get("seconds", {})
    frames = frames_of(alphas)
    provenance = [
        (str(each["path"]), plain(each["value"]), str(each["origin"]))
        for each in content.get("provenance", [])
    ]
    return {
        "name": content["name"],
        "sentence": _sentence(content, sum(seconds.values())),
        "metrics": list(figures_told(content.get("metrics", {}), content.get("tradeoff", {}))),
        "seeds": _seeds(content.get("seeds", [])),
        "classes": class_rows(content.get("confusion", {})),
        "class_header": CLASS_HEADER,
        "confusion": matrix_of(content.get("confusion", {})),
        "notes": [str(each) for each in content.get("notes", [])],
        "study": _study(content.get("study", {})),
        "own_study": _OWN_STUDY.format(epochs=frames[-1]) if frames else "",
        "standing": _standing(content.get("benchmark", {})),
        "total": duration(sum(seconds.values())) if seconds else "",
        "parts": strip(content.get("parts", []), candidates),
        "graphs": [drawn(graph_from(graph), candidates) for graph in content.get("graphs", {}).values()],
        "architecture": content.get("architecture") or "",
        "genotype": json.dumps(content.get("genotype", {}), indent=2, ensure_ascii=False),
        "candidates": candidates,
        "frames": frames,
        "heat_maps": heat_maps(alphas, frames, content.get("genotype", {}).get("choices", {})),
        "alphas": _present(
            chart(_strongest_title(name, series), series, candidates, strongest(series))
            for name, series in alphas.items()
        ),
        "splits": splits,
        "curves": _present(
            chart(_with_unit(title, content.get("tradeoff", {})), series, splits)
            for title, series in curves.items()
        ),
        "health": _health(content.get("health", {})),
        "other_seeds": told_of_seeds(run_dir, content, _judged_by(content.get("metrics", {}))),
        "health_kinds": cells,
        "health_curves": _present(
            chart(title.removeprefix("health: "), series, cells, joined=True)
            for title, series in health_curves.items()
        ),
        "tradeoff": _tradeoff(content.get("tradeoff", {})),
        "tradeoff_note": _tradeoff_note(content.get("tradeoff", {})),
        "baseline": _baseline(content.get("baseline", {})),
        "random": _random(content.get("random", {})),
        "scores": _scores(content.get("random", {})),
        "exports": [(name, *table_of(each["figures"])) for name, each in content.get("exports", {}).items()],
        "cost": _cost(content),
        "peak": _peak(content),
        "active": _active(content.get("active", {})),
        "environment": [
            (spell(name), plain(value))
            for name, value in content.get("environment", {}).items()
            if value is not None and name != "command"
        ],
        "said": [each for each in provenance if each[2] != "default"],
        "defaults": [each[:2] for each in provenance if each[2] == "default"],
        "recipe": content.get("recipe", ""),
        "command": content.get("command", ""),
        "width": WIDTH,
        "height": HEIGHT,
    }


def _sentence(content: Mapping[str, Any], seconds: float) -> str:
    """What was found, how long it took, and how the search went."""
    metrics, verdict = content.get("metrics", {}), str(content.get("verdict") or "")
    main, parts = _main_metric(metrics), []
    if main is not None:
        parts.append(f"{figure(main, metrics[main])} {spell(main)}")
    if "parameters" in metrics:
        parts.append(f"with {metrics['parameters']:,.0f} parameters")
    if seconds:
        parts.append(f"found and trained in {duration(seconds)}")
    found = ", ".join(filter(None, [" ".join(parts[:2]), *parts[2:]]))
    if verdict:
        verdict = verdict if verdict.startswith("search ") else f"the search is {verdict}"
    beside: Mapping[str, Any] = content.get("baseline", {})
    compared = f"beside {beside['name']}, {beside['outcome']}" if beside.get("outcome") else ""
    sentence = "; ".join(filter(None, [found, compared, verdict]))
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _main_metric(metrics: Iterable[str]) -> str | None:
    tested = [name for name in metrics if name.startswith("test_")]
    return next((name for name in tested if not name.endswith("_loss")), next(iter(tested), None))


def _judged_by(metrics: Mapping[str, Any]) -> str | None:
    """The figure by which networks are compared: the truth where a table tells it."""
    return "true_accuracy" if "true_accuracy" in metrics else _main_metric(metrics)


def _cost_name(tradeoff: Mapping[str, Any]) -> str:
    return spell(tradeoff["cost"]) + (f" in {tradeoff['unit']}" if tradeoff["unit"] else "")


def _study(of: Mapping[str, Any]) -> str:
    if not of:
        return ""
    return f"A trial of a study: {of['method']} in the setting {of['setting']}, seed {of['seed']}."


def _standing(benchmark: Mapping[str, Any]) -> str:
    if not benchmark:
        return ""
    return (
        f"In the table of {benchmark['name']}, this architecture reaches {benchmark['accuracy']:.2%}: rank "
        f"{benchmark['rank']:,} of {benchmark['count']:,}, at least as accurate as "
        f"{benchmark['percentile']:.2f}% of them. A random one is no better with that probability."
    )


def _seeds(rows: list[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The figures of each seed of the retraining."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [spell(name) for name in names], [
        [figure(name, row.get(name, "")) for name in names] for row in rows
    ]


def _parted(
    curves: Mapping[str, Series],
) -> tuple[dict[str, dict[str, Series]], dict[str, dict[str, Series]]]:
    """Curves of the search's health, and all others."""
    groups = by_figure(curves)
    health = {title: series for title, series in groups.items() if title.startswith("health: ")}
    return health, {title: series for title, series in groups.items() if title not in health}


def _with_unit(title: str, tradeoff: Mapping[str, Any]) -> str:
    """Of a curve of costs, what they are."""
    if not tradeoff or not title.endswith(" cost"):
        return title
    return f"{title}, {_cost_name(tradeoff)}"


def _health(health: Mapping[str, Any]) -> list[str]:
    """What was said of the search's health, in sentences."""
    sentences = []
    if health.get("verdict"):
        sentences.append(f"At the end: {health['verdict']}.")
    if health.get("first"):
        sentences.append(f"At first: {health['first']}.")
    for epoch, best in health.get("returns", []):
        sentences.append(f"After epoch {epoch} the alphas went back to those of epoch {best}.")
    for name, reason in health.get("left_out", {}).items():
        what = "Nothing was looked at" if name == "all" else f"Not measured: {spell(name)}"
        sentences.append(f"{what}, because {reason}." if name == "all" else f"{what} ({reason}).")
    return sentences


def _tradeoff(found: Mapping[str, Any]) -> Scatter | None:
    """Quality over cost of what a search looked at; what it found last, or as the best, stands out."""
    points = found.get("points", [])
    if not points:
        return None
    limit = found["max_cost"]
    by_score = found["quality"] == "score"
    best = max(points, key=lambda each: each["value"]) if by_score else points[-1]
    shown = [*thinned([each for each in points if each is not best], _MOST_DOTS), best]
    dots = [
        Point(
            f"{each['name']}: {short(each['value'])} at {short(each['cost'])}",
            each["cost"],
            each["value"],
            1 if each is best else 0,
            each is best,
        )
        for each in shown
    ]
    title, mark = str(found["quality"]).capitalize(), None if limit is None else (limit, "budget")
    return scatter(title, _cost_name(found), dots, mark)


def _tradeoff_note(found: Mapping[str, Any]) -> str:
    """What the points are."""
    if found.get("quality") == "score":
        return "Each architecture that was scored with the whole budget."
    is_true = "table" in found.get("quality", "")
    learning = "" if is_true else " Accuracy also grows because the supernet learns meanwhile."
    return f"The architecture that the search preferred after each epoch.{learning}"


def _baseline(told: Mapping[str, Any]) -> dict[str, Any]:
    """The found network beside one of the field: in a sentence, a table, a picture, and choice by choice."""
    if not told:
        return {}
    of, networks, unit = str(told["figure"]), told["networks"], str(told["unit"])
    whose = "cost" if networks[0]["measured_cost"] is None else "measured_cost"
    cost = spell(told["cost"]) + (f" in {unit}" if unit else "")
    header, rows = table_of_baseline(told)
    return {
        "name": str(told["name"]),
        "sentence": f"{told['sentence']}.",
        "why": told.get("why", ""),
        "header": header,
        "rows": rows,
        "scatter": scatter(
            spell(of),
            cost,
            [
                Point(f"{each['network']}: {figure(of, value)}", each[whose], value, index, strong=True)
                for index, each in enumerate(networks)
                for value in each["values"]
            ],
            is_front_drawn=False,
        ),
        "legend": {str(each["network"]): index for index, each in enumerate(networks)},
        "choices": [
            [str(each["choice"]), *(_kept(each[which]) for which in ("found", "baseline"))]
            for each in told["choices"]
        ],
        "choices_header": ["choice", f"found ({unit or cost})", f"{told['name']} ({unit or cost})"],
    }


def _kept(kept: list[list[Any]]) -> str:
    """What a choice keeps, each with what of the cost lies with it: nothing with a width that blocks have."""
    return ", ".join(f"{name}: {short(price)}" if price else name for name, price in kept) or "nothing"


def _random(found: Mapping[str, Any]) -> str:
    """How what was found compares with what was drawn at random."""
    if not found or not found["count"]:
        return ""
    count, median = found["count"], found["median"]
    which = "1 architecture" if count == 1 else f"{count:,} architectures"
    return (
        f"The best score is {short(found['found'])}. Of {which} drawn at random, the median is "
        f"{short(median)} ({short(found['found'] - median)} less) and the best {short(found['best'])}."
    )


def _scores(found: Mapping[str, Any]) -> Scatter | None:
    """The score of each evaluation; those drawn at random in a color of their own."""
    values: list[float | None] = found.get("scores", [])
    best = values.index(found["found"]) if values else None
    points = [
        Point(
            f"evaluation {index + 1}: {short(value)}",
            index + 1,
            value,
            1 if index == best else 7 if index < found["count"] else 0,
            index == best,
        )
        for index, value in enumerate(values)
        if value is not None
    ]
    shown = thinned(points, _MOST_DOTS)
    return scatter("Score", "evaluations", shown, is_front_drawn=False)


def _cost(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row for each stage; columns that no stage has are left out."""
    rows = [
        [
            spell(each.stage),
            duration(each.seconds),
            f"{each.steps:,}" if each.steps else "",
            rate(each.images_per_second),
            "" if each.joules is None else joules(each.joules),
        ]
        for each in stages_of(content)
    ]
    header = ["stage", "time", "steps", "images/s (median of the epochs)", "energy of the processors"]
    kept = [index for index in range(len(header)) if any(row[index] for row in rows)]
    return [header[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _peak(content: Mapping[str, Any]) -> str:
    peak = content.get("peak_bytes")
    if peak is None:
        return ""
    of_device = str(content.get("environment", {}).get("device", "cpu")).startswith("cuda")
    whose = "of tensors on the device" if of_device else "of the process, with PyTorch and the data"
    return f"{spell_bytes(peak)} {whose}"


def _active(by_stage: Mapping[str, Sequence[Mapping[str, str]]]) -> tuple[list[str], list[list[str]]]:
    """What settings came to in each stage."""
    return active_table(
        {stage: [ActiveSetting(**each) for each in found] for stage, found in by_stage.items()}
    )


def _present(charts: Iterable[Chart | None]) -> list[Chart]:
    return [each for each in charts if each is not None]


def _strongest_title(choice: str, series: Mapping[str, Series]) -> str:
    name = strongest(series)
    return f"{choice}: {name} {series[name][-1]:.2f}" if name else choice
