"""What a run tells of itself, as plain data: report.json."""

import json
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeAlias

from nasframe.core import Explorer, Genotype, Graph, Prices, Space, Standing, Task, unit_of
from nasframe.core.json_text import read_json, read_json_file
from nasframe.core.part import parts_of
from nasframe.core.storage import write_whole
from nasframe.errors import FormatError
from nasframe.pages.drawing import graph_from
from nasframe.recipe.baseline import Comparison
from nasframe.recipe.exploring import Scored
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.run_directory import RunDirectory

Curves: TypeAlias = dict[str, list[float | None]]

_QUALITIES: Final = (
    ("search/true_accuracy", "accuracy by the table"),
    ("health/path_accuracy", "accuracy of the derived path in the supernet"),
    ("search/valid_accuracy", "validation accuracy in the supernet"),
)
"""What may tell how good the architecture is that a search prefers after an epoch, the best one first."""


def write_report(
    directory: RunDirectory,
    recipe: Recipe,
    genotype: Genotype,
    space: Space,
    metrics: dict[str, float],
    task: Task,
    standing: Standing | None,
    rows: list[dict[str, float]],
    confusion: dict[str, Any],
    comparison: Comparison | None = None,
) -> None:
    """Write ``report.json``.

    Args:
        directory: The run's.
        recipe: Of the run.
        genotype: What was found.
        space: That of the retraining.
        metrics: Figures of the retrained network; the costs that a search told of are added.
        task: What is learned.
        standing: Where the found architecture truly stands, if a table says so.
        rows: Figures of each seed of the retraining.
        confusion: What the classes of the test examples were taken for.
        comparison: With a baseline, if there is one.
    """
    graphs: dict[str, Graph] = dict(space.graphs(genotype))
    curves = {name: _curves(directory.root / name / "metrics.jsonl") for name in ("search", "retrain")}
    environment = read_json_file(directory.environment)
    for name in ("best_score", "max_cost"):
        if (last := curves["search"].get(f"search/{name}", [None])[-1]) is not None:
            metrics[name] = last
    status = directory.status()
    scored = list(_scored(directory.scores))
    content = {
        "name": recipe.name,
        "verdict": health_of(directory).get("verdict", ""),
        "task": asdict(task),
        "metrics": metrics,
        "seeds": rows,
        "confusion": confusion,
        "benchmark": _benchmark_entry(recipe, standing),
        "architecture": space.key(genotype),
        "genotype": json.loads(genotype.to_json()),
        "graphs": {name: asdict(graph) for name, graph in graphs.items()},
        "parts": [asdict(part) for part in parts_of(space, genotype, task)],
        "alphas": _alphas(curves["search"]),
        "health": health_of(directory),
        "curves": {
            tag: values
            for of_stage in curves.values()
            for tag, values in of_stage.items()
            if not tag.startswith("alphas/") or tag == "alphas/entropy"
        },
        "tradeoff": _tradeoff(recipe, directory.known_prices(), curves["search"], scored),
        "baseline": {} if comparison is None else comparison.plain(),
        "random": _random(recipe, scored, space),
        "seconds": status["seconds"],
        "steps": status.get("steps", {}),
        "joules": status.get("joules", {}),
        "peak_bytes": status.get("peak_bytes"),
        "active": status.get("active", {}),
        "notes": status.get("notes", []),
        "environment": environment,
        "recipe": directory.recipe.read_text(encoding="utf-8"),
        "provenance": read_json_file(directory.provenance) if directory.provenance.exists() else [],
        "command": _command(environment["command"]),
    }
    write_whole(directory.report, json.dumps(content, indent=2) + "\n")


def reported_graphs(path: Path) -> dict[str, Graph]:
    """How the space drew the found architecture, by name.

    Raises:
        FormatError: The report says something else.
    """
    content = read_json_file(path)
    try:
        return {name: graph_from(plain) for name, plain in content.get("graphs", {}).items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: `graphs` must be graphs: {error!r:.200}") from error


def health_of(directory: RunDirectory) -> dict[str, Any]:
    """What was said of the search's health; empty where nothing was."""
    found = directory.status().get("health")
    return found if isinstance(found, dict) else {}


def _command(words: list[str]) -> str:
    """What to type to start the run as it was started."""
    program, *arguments = words
    typed = ["python", "-m", "nasframe"] if program == "__main__.py" else [program]
    return shlex.join([*typed, *arguments])


def _benchmark_entry(recipe: Recipe, standing: Standing | None) -> dict[str, Any]:
    if recipe.search.benchmark is None or standing is None:
        return {}
    return {"name": recipe.search.benchmark.name, "percentile": standing.percentile, **asdict(standing)}


def _curves(path: Path) -> Curves:
    """Each tag's values over the epochs; empty where no jsonl tracker wrote them."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    records = [read_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    tags = dict.fromkeys(tag for record in records for tag in record if tag != "step")
    return {tag: [record.get(tag) for record in records] for tag in tags}


def _alphas(curves: Curves) -> dict[str, Curves]:
    alphas: dict[str, Curves] = {}
    for tag, values in curves.items():
        if tag.startswith("alphas/") and tag != "alphas/entropy":
            _, choice_id, candidate = tag.split("/", 2)
            alphas.setdefault(choice_id, {})[candidate] = values
    return alphas


def _scored(path: Path) -> Iterator[Scored]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        yield Scored.of_line(line, f"{path}:{number}")


def _tradeoff(recipe: Recipe, prices: Prices | None, curves: Curves, scored: list[Scored]) -> dict[str, Any]:
    """Cost and quality of what the search looked at; empty where it had no cost."""
    section = recipe.search
    if section.cost is None:
        return {}
    limits = [value for value in curves.get("search/max_cost", []) if value is not None]
    if scored and prices is not None:
        quality = "score"
        points: list[dict[str, Any]] = [
            {"name": f"evaluation {index}", "cost": prices.of(each.genotype), "value": each.score}
            for index, each in enumerate(scored, 1)
            if each.score is not None and each.budget == 1
        ]
    else:
        tag, quality = next((each for each in _QUALITIES if each[0] in curves), ("", ""))
        pairs = zip(curves.get("search/derived_cost", []), curves.get(tag, []), strict=False)
        points = [
            {"name": f"epoch {index}", "cost": cost, "value": value}
            for index, (cost, value) in enumerate(pairs, 1)
            if cost is not None and value is not None
        ]
    named = {"cost": section.cost.name, "unit": unit_of(section.cost().units), "quality": quality}
    return {**named, "max_cost": limits[-1] if limits else None, "points": points}


def _random(recipe: Recipe, scored: list[Scored], space: Space) -> dict[str, Any]:
    """Scores of the architectures that an explorer drew at random, beside the best of all; empty without."""
    whole = [each.score for each in scored if each.budget == 1]
    found = [score for score in whole if score is not None]
    if recipe.search.explorer is None or not found:
        return {}
    explorer: Explorer = recipe.search.explorer(space, recipe.seed)
    drawn = [score for score in whole[: explorer.num_random] if score is not None]
    told: dict[str, Any] = {"scores": whole, "found": max(found), "count": len(drawn)}
    if drawn:
        told |= {"best": max(drawn), "median": statistics.median(drawn)}
    return told
