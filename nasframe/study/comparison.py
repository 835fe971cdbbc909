"""Finished runs side by side."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from os.path import commonpath
from pathlib import Path
from typing import Any, TypeAlias

from nasframe.core.storage import write_whole
from nasframe.errors import FormatError
from nasframe.pages.chart import HEIGHT, WIDTH, Chart, Point, Scatter, Series, chart, scatter
from nasframe.pages.cost import stages_of
from nasframe.pages.curve import numbered
from nasframe.pages.drawing import drawn, graph_from, strip
from nasframe.pages.page import rendered
from nasframe.pages.words import duration, figure, figures_told, joules, plain, rate, short, spell
from nasframe.quantity import spell_bytes
from nasframe.recipe.exporting import report_of
from nasframe.recipe.loading import load_with_places
from nasframe.recipe.minimal import minimal_mapping
from nasframe.recipe.provenance import Sourced, both_in_order, dotted, sourced_values
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.tree import KeyPath

Row: TypeAlias = tuple[str, list[str]]
"""What is compared, and how it is spelled for each run; empty where a run does not have it."""


def _parted(folders: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """The runs that are finished, and why others are not, by their paths."""
    finished, left_out = [], dict[str, str]()
    for folder in folders:
        if (reason := _unfinished(folder)) is None:
            finished.append(folder)
        else:
            left_out[str(folder)] = reason
    if not finished:
        reasons = "\n".join(f"  {folder}: {reason}" for folder, reason in left_out.items())
        raise FormatError(f"compare: a run must be finished to be compared, but none is:\n{reasons}")
    return finished, left_out


def _unfinished(folder: Path) -> str | None:
    """Why a run cannot be compared; None if it can."""
    try:
        if (folder / "report.json").exists():
            report_of(folder / "report.json")
            return None
        status = RunDirectory.open(folder).status()
    except FormatError as error:
        return str(error).removeprefix(f"{folder}: ")
    ended, stage = status.get("ended"), status.get("stage", "start")
    if ended == "failed":
        return f"failed in the {stage}: {status.get('reason')}"
    how = "stopped" if status.get("owner") is None else "runs, or was killed,"
    return f"{how} in the {stage}; `nasframe resume {folder}` finishes it"


def compare(folders: Sequence[Path], plugins: Sequence[Path] = ()) -> dict[str, Any]:
    """What differs between finished runs, and their figures, as plain data.

    Args:
        folders: Run directories. Those of unfinished runs are told under ``left_out``, with the reason.
        plugins: Python modules that register components which their recipes name.

    Raises:
        FormatError: None of them is a finished run, or one is given twice.
        RecipeError: One of them has a recipe that cannot be read, such as without its plugin.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise FormatError("compare: must be different runs, but one is given twice; leave it out")
    folders, left_out = _parted(folders)
    reports = [report_of(folder / "report.json") for folder in folders]
    try:
        labels = _labels([str(report["name"]) for report in reports], folders)
        found: dict[str, Any] = {
            "runs": [_told(*each) for each in zip(labels, folders, reports, strict=True)],
            "metrics": _by_name([report.get("metrics", {}) for report in reports]),
            "cost": _by_name([_cost(report) for report in reports]),
            "choices": _choices([report.get("genotype", {}).get("choices", {}) for report in reports]),
        }
        origins = [_origins(report) for report in reports]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(folders, error) from error
    return {**found, "recipe": _recipes(folders, origins, plugins), "left_out": left_out}


def _unreadable(folders: Sequence[Path], error: Exception) -> FormatError:
    which = ", ".join(str(folder / "report.json") for folder in folders)
    return FormatError(f"{which}: each must be what a finished run leaves: {error!r:.200}")


def _labels(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """A short name for each run: its recipe's, or its folder's, or the part of its path that is its own."""
    resolved = [folder.resolve() for folder in folders]
    above = commonpath(resolved) if len(resolved) > 1 else resolved[0].parent
    paths = [str(folder.relative_to(above)) for folder in resolved]
    choices = [list(names), [folder.name for folder in resolved], paths]
    return next(each for each in choices if len(set(each)) == len(each))


def _told(label: str, folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": label,
        "folder": str(folder),
        "name": str(report["name"]),
        "architecture": report.get("architecture"),
        "health": report.get("verdict", ""),
        "searched_by": _searched_by(report.get("tradeoff", {})),
    }


def _searched_by(tradeoff: Mapping[str, Any]) -> dict[str, str]:
    """The cost that the search minded, and its unit; empty where it minded none."""
    return {name: str(tradeoff[name]) for name in ("cost", "unit") if name in tradeoff}


def _cost(report: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float | None] = {}
    for each in stages_of(report):
        found[f"{each.stage}_seconds"] = each.seconds
        found[f"{each.stage}_images_per_second"] = each.images_per_second
        found[f"{each.stage}_joules"] = each.joules
    found["peak_bytes"] = report.get("peak_bytes")
    return {name: value for name, value in found.items() if value is not None}


def _by_name(figures: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for each in figures for name in each)
    return {name: [each.get(name) for each in figures] for name in names}


def _choices(genotypes: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, Any]:
    """How many choices all runs decide alike, and those that they do not."""
    every = _by_name(genotypes)
    differing = {name: kept for name, kept in every.items() if any(each != kept[0] for each in kept)}
    return {"count": len(every), "alike": len(every) - len(differing), "differing": differing}


def _origins(report: Mapping[str, Any]) -> dict[str, str]:
    """Where each value of a recipe came from when its run was started, as far as its report tells."""
    return {str(each["path"]): str(each["origin"]) for each in report.get("provenance", [])}


def _recipes(
    folders: Sequence[Path], origins: Sequence[Mapping[str, str]], plugins: Sequence[Path]
) -> list[dict[str, Any]]:
    """The paths at which the recipes differ; None for a recipe that has nothing there.

    Defaults of what only some have, such as those of another algorithm, are left out; those that differ are
    of different versions of nasframe.
    """
    recipes, said = [], set[KeyPath]()
    for folder in folders:
        recipe, places = load_with_places(folder / "recipe.yaml", (), plugins, check=False, outside=True)
        recipes.append(sourced_values(recipe, places))
        said |= set(_prefixes(minimal_mapping(recipe), ()))
    paths: list[KeyPath] = reduce(lambda left, right: list(both_in_order(left, right)), recipes, [])
    found = []
    for path in paths:
        values = [_sourced(path, *each) for each in zip(recipes, origins, strict=True)]
        if path in said and _differ(values):
            found.append({"path": dotted(path), "values": values})
    return found


def _sourced(
    path: KeyPath, recipe: Mapping[KeyPath, Sourced], origins: Mapping[str, str]
) -> dict[str, Any] | None:
    """What a recipe has at a path, and where that came from if it is known."""
    if path not in recipe:
        return None
    origin = origins.get(dotted(path))
    return {"value": recipe[path].value} | ({} if origin is None else {"origin": origin})


def _differ(values: Sequence[Mapping[str, Any] | None]) -> bool:
    """Whether runs have different values, or some have one that was written."""
    there = [each for each in values if each is not None]
    if all(each["value"] in ([], None) for each in there):
        return False
    if len(there) < len(values):
        return not all(map(_is_default, there))
    return any(each["value"] != there[0]["value"] for each in there)


def _is_default(told: Mapping[str, Any]) -> bool:
    return told.get("origin") == "default"


def _prefixes(said: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The paths of all that a recipe says, and of what these lie in; a component by its name has a type."""
    yield path
    if isinstance(said, str):
        yield (*path, "type")
    items = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for key, each in items:
        yield from _prefixes(each, (*path, key))


def figure_rows(found: Mapping[str, Any]) -> list[Row]:
    """Metrics and cost, as text."""
    consumed = [
        (_without_unit(spell(name)), [_spelled(name, value) for value in values])
        for name, values in found["cost"].items()
    ]
    return [*_metric_rows(found), *consumed]


def _metric_rows(found: Mapping[str, Any]) -> list[Row]:
    """Metrics by what runs call them: of each cost that they paid for there is a row of its own."""
    columns = []
    for index, run in enumerate(found["runs"]):
        own = {name: values[index] for name, values in found["metrics"].items() if values[index] is not None}
        columns.append(dict(figures_told(own, run["searched_by"])))
    titles = dict.fromkeys(title for column in columns for title in column)
    return [(title, [column.get(title, "") for column in columns]) for title in titles]


def _spelled(name: str, value: Any) -> str:
    if value is None:
        return ""
    spellings = {
        "_images_per_second": rate,
        "_seconds": duration,
        "_joules": joules,
        "peak_bytes": spell_bytes,
    }
    return next(
        (spelled(value) for end, spelled in spellings.items() if name.endswith(end)), figure(name, value)
    )


def _without_unit(name: str) -> str:
    for end, instead in ((" images per second", " images/s"), (" seconds", " time"), (" joules", " energy")):
        name = name.replace(end, instead)
    return "peak memory" if name == "peak bytes" else name


def recipe_rows(found: Mapping[str, Any]) -> list[Row]:
    """What differs between the recipes, as text."""
    return [(each["path"], list(map(_value_told, each["values"]))) for each in found["recipe"]]


def _value_told(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "—"
    return f"{plain(told['value'])} (default)" if _is_default(told) else plain(told["value"])


def choice_rows(found: Mapping[str, Any]) -> list[Row]:
    """What the architectures keep where they differ, as text."""
    differing = found["choices"]["differing"].items()
    return [
        (name, ["—" if each is None else " ".join(map(str, each)) for each in kept])
        for name, kept in differing
    ]


def write_comparison(path: Path, found: Mapping[str, Any]) -> None:
    """Write a page that shows runs side by side; it needs no network and no script.

    Args:
        path: The file.
        found: From `compare`.

    Raises:
        FormatError: A run's report is not what it must be.
    """
    folders = [Path(run["folder"]) for run in found["runs"]]
    reports = [report_of(folder / "report.json") for folder in folders]
    try:
        page = rendered("study", "comparison.html", _view(found, reports))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _unreadable(folders, error) from error
    write_whole(path, page)


def _view(found: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    labels = [run["label"] for run in found["runs"]]
    candidates = numbered(_candidates(reports))
    return {
        "labels": labels,
        "runs": found["runs"],
        "left_out": found["left_out"],
        "colors": numbered(labels),
        "sentence": _sentence(found),
        "figures": figure_rows(found),
        "sizes": _sizes(found),
        "choices": found["choices"],
        "choice_rows": choice_rows(found),
        "networks": [
            {
                "label": label,
                "parts": strip(report.get("parts", []), candidates),
                "graphs": [drawn(graph_from(each), candidates) for each in report.get("graphs", {}).values()],
                "architecture": report.get("architecture") or "",
            }
            for label, report in zip(labels, reports, strict=True)
        ],
        "curves": list(_curves(labels, [report.get("curves", {}) for report in reports])),
        "recipe": recipe_rows(found),
        "width": WIDTH,
        "height": HEIGHT,
    }


def _candidates(reports: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """All candidates, so that each has one color on the page."""
    for report in reports:
        for series in report.get("alphas", {}).values():
            yield from series
        for graph in report.get("graphs", {}).values():
            yield from (str(label) for *_, label in graph["edges"] if label)
        yield from (str(part["what"]) for part in report.get("parts", []) if part["is_chosen"])


def _main_metric(found: Mapping[str, Any]) -> str | None:
    tested = [name for name in found["metrics"] if name.startswith("test_")]
    return next((name for name in tested if name.endswith("accuracy")), None)


def _sentence(found: Mapping[str, Any]) -> str:
    """Which run is the most accurate."""
    name = _main_metric(found)
    known = [
        (value, run["label"])
        for value, run in zip(found["metrics"].get(name, []), found["runs"], strict=False)
        if value is not None
    ]
    if name is None or len(known) < 2:
        return ""
    best, label = max(known)
    others = [value for value, other in known if other != label]
    if best == max(others):
        return f"The highest {spell(name)}, {figure(name, best)}, is that of several."
    return (
        f"The highest {spell(name)} is that of {label}: {figure(name, best)}, "
        f"{100 * (best - max(others)):.2f} points above the next. A run of each says little: repeat them "
        "with other seeds."
    )


def _sizes(found: Mapping[str, Any]) -> Scatter | None:
    """Accuracy over parameters of the runs that have both."""
    name, sizes = _main_metric(found), found["metrics"].get("parameters", [])
    if name is None:
        return None
    points = [
        Point(
            f"{run['label']}: {figure(name, value)} with {short(size)} parameters",
            size,
            100 * value,
            index,
            True,
        )
        for index, (run, value, size) in enumerate(
            zip(found["runs"], found["metrics"][name], sizes, strict=True)
        )
        if value is not None and size is not None
    ]
    return (
        scatter(f"{spell(name).capitalize()} in percent", "parameters", points) if len(points) > 1 else None
    )


def _curves(labels: Sequence[str], curves: Sequence[Mapping[str, Series]]) -> Iterator[Chart]:
    """A chart for each figure; those that are the same in all runs are left out."""
    colors = numbered(labels)
    for tag in dict.fromkeys(tag for each in curves for tag in each):
        series = {label: each[tag] for label, each in zip(labels, curves, strict=True) if tag in each}
        first, *others = series.values()
        if others and all(each == first for each in others) and len(series) == len(labels):
            continue
        made = chart(spell(tag).replace("/", ": ", 1), series, colors, joined=tag.startswith("health/"))
        if made is not None:
            yield made
