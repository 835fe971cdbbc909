"""What exporters are given of a run, and what is noted of what they wrote."""

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nasframe.core import Dataset, Exported, Exporter, FinishedRun, Genotype, Model, Report
from nasframe.core.json_text import read_json_file
from nasframe.core.storage import write_whole
from nasframe.errors import DataError, FaultWarning, FormatError, StorageError
from nasframe.recipe.model_folder import describe, read_model_folder
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.schema import recipe_to_mapping
from nasframe.registry import Component

_NUM_EXAMPLES = 8


def finished_run(
    directory: RunDirectory, recipe: Recipe, genotype: Genotype, model: Model, data: Dataset
) -> FinishedRun:
    """What exporters are given.

    Args:
        directory: Of the run, with its report.
        recipe: Of the run.
        genotype: What was found.
        model: The retrained network, in evaluation mode on the CPU.
        data: Of the recipe.

    Raises:
        DataError: Inputs are more than one tensor.
    """
    section = recipe.retrain
    return FinishedRun(
        model=model,
        example=_example(data),
        data=data,
        objective=section.objective(),
        describe=partial(describe, recipe.name, data, section.space, section.objective, genotype),
        load=read_model_folder,
        recipe=recipe_to_mapping(recipe),
        report=report_of(directory.report),
        predicted_latency_ms=_predicted_latency(directory, recipe, genotype),
    )


def export(
    component: Component[Exporter],
    run: FinishedRun,
    folder: Path,
    directory: RunDirectory,
    report: Component[Report],
) -> Exported:
    """Export, and note how far the file is off; what else was measured of it goes into the report.

    Args:
        component: The exporter.
        run: What it is given.
        folder: Where it writes.
        directory: Of the run.
        report: That for people.
    """
    done = component().export_run(run, folder)
    if done.max_difference is not None:
        noted = folder / "checks.json"
        checks = read_json_file(noted) if noted.exists() else {}
        figures = {"max_difference": done.max_difference, "num_examples": done.num_examples}
        write_whole(noted, json.dumps({**checks, done.path.name: figures}, indent=2) + "\n")
    if done.figures:
        _report(directory, report, component.name, done)
    return done


def report_of(path: Path) -> dict[str, Any]:
    """What ``report.json`` says.

    Raises:
        FormatError: It is no such file.
    """
    content = read_json_file(path, f"finish the run with `nasframe resume {path.parent}`")
    if not isinstance(content, dict):
        raise FormatError(f"{path}: must be the report of a run, an object, got {content!r:.80}")
    return content


def _example(data: Dataset) -> torch.Tensor:
    batch = data.test.batch(torch.arange(min(_NUM_EXAMPLES, len(data.test))))
    example = data.preprocess.normalize(data.preprocess.scale(batch.inputs))
    if not isinstance(example, torch.Tensor):
        raise DataError("export: inputs must be one tensor")
    return example


def _predicted_latency(directory: RunDirectory, recipe: Recipe, genotype: Genotype) -> float | None:
    """Milliseconds, where the search had such a cost."""
    prices = directory.known_prices()
    units = {} if recipe.search.cost is None else recipe.search.cost().units
    return None if prices is None or "ms" not in units else prices.of(genotype) / units["ms"]


def _report(directory: RunDirectory, report: Component[Report], exporter: str, exported: Exported) -> None:
    """Let the reports say what was measured; what cannot be written is told by a `FaultWarning`."""
    content = report_of(directory.report)
    others = content.get("exports")
    figures = {of: dict(each) for of, each in exported.figures.items()}
    entry = {exporter: {"path": str(exported.path), "figures": figures}}
    content["exports"] = {**others, **entry} if isinstance(others, dict) else entry
    try:
        write_whole(directory.report, json.dumps(content, indent=2) + "\n")
        report().write(directory.root)
    except StorageError as error:
        warnings.warn(f"{error}; the report does not tell of {exported.path}", FaultWarning, stacklevel=2)
