"""The model card: what a reader of the hub must know of a network, written from its run."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import torch
import yaml

from nasframe.core import Dataset, FinishedRun, NormalizeImages
from nasframe.pages.cost import stages_of
from nasframe.pages.words import duration, figures_told, joules

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$-])")
_OF_SEVERAL: Final = ("_mean", "_std")  # of all trainings, not of this network
_MOST_CLASSES: Final = 50
_IMAGE_DIMENSIONS: Final = 3


def model_card(run: FinishedRun) -> str:
    """Markdown, after a front matter as the Hugging Face hub reads it.

    Names that others chose are text in it: neither YAML nor Markdown nor HTML.
    """
    front = yaml.safe_dump(_front_matter(run), sort_keys=False, allow_unicode=True)
    sections = {
        "Use": _use(run),
        "Figures": _figures(run),
        "Data": _data(run),
        "How it was found": _found(run),
        "Cost": _cost(run.report),
        "Limits": _limits(run),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{front}---\n\n# {_text(run.recipe['name'])}\n\n{_summary(run)}\n\n{body}\n"


def _front_matter(run: FinishedRun) -> dict[str, Any]:
    tag = _pipeline(run.data)
    figures = {
        name.removeprefix("test_"): value
        for name, value in _metrics(run).items()
        if name.startswith("test_") and name != "test_loss" and not name.endswith(_OF_SEVERAL)
    }
    data = {"type": run.recipe["data"]["type"], "name": run.recipe["data"]["type"], "split": "test"}
    measured = [{"type": name, "value": value} for name, value in figures.items()]
    front: dict[str, Any] = {"library_name": "nasframe"}
    if tag:
        front["pipeline_tag"] = tag
    front["tags"] = ["nasframe", "neural-architecture-search", "pytorch"]
    if figures:
        front["metrics"] = list(figures)
    if tag and figures:
        result = {"task": {"type": tag}, "dataset": data, "metrics": measured}
        front["model-index"] = [{"name": run.recipe["name"], "results": [result]}]
    return front


def _pipeline(data: Dataset) -> str:
    """What the hub calls the task; empty where it has no name for it."""
    if data.task.vocabulary is not None:
        return "text-classification" if data.class_names else ""
    if len(data.task.input_shape) == _IMAGE_DIMENSIONS:
        return "image-classification" if data.class_names else ""
    return "tabular-classification" if data.class_names else "tabular-regression"


def _metrics(run: FinishedRun) -> dict[str, float]:
    metrics = run.report.get("metrics", {})
    return {
        name: value
        for name, value in (metrics.items() if isinstance(metrics, Mapping) else ())
        if type(value) in (int, float) and math.isfinite(value)
    }


def _summary(run: FinishedRun) -> str:
    outputs = run.data.task.num_outputs
    what = f"tells {outputs} classes apart" if run.data.class_names else f"has {outputs} outputs"
    size = f"{sum(parameter.numel() for parameter in run.model.parameters()):,}"
    return (
        f"A network with {size} parameters that {what}. Its architecture is of the space "
        f"`{run.recipe['space']['type']}` of nasframe, neural architecture search for PyTorch."
    )


def _use(run: FinishedRun) -> str:
    asks = ""
    with torch.no_grad():
        asked = "probabilities" if run.objective.numbers(run.model(run.example)) is None else "numbers"
    if run.data.reader is not None:
        told = "numbers" if asked == "numbers" else "classes"
        asks = f"""
for prediction in model.predict(["FILE"]):
    print(prediction.file, prediction.{told})
"""
    command = "\n\n```sh\nnasframe predict FOLDER FILE\n```" if run.data.reader is not None else ""
    return f"""`pip install nasframe`, and with FOLDER for what holds this file:

```python
import nasframe

model = nasframe.load("FOLDER")
{asks}```

`model.network` is the PyTorch module in evaluation mode; it takes normalized inputs, and
`model.{asked}(inputs)` raw ones. Loading runs no code of this folder.{command}"""


def _figures(run: FinishedRun) -> str:
    rows = "\n".join(
        f"| {_text(name)} | {_text(value)} |"
        for name, value in figures_told(_metrics(run), run.report.get("tradeoff", {}))
    )
    return (
        f"On {len(run.data.test):,} test examples, which neither search nor training saw.\n\n"
        f"| figure | value |\n|---|---|\n{rows}"
    )


def _data(run: FinishedRun) -> str:
    data, shape = run.data, " x ".join(map(str, run.data.task.input_shape))
    tokens = "" if data.task.vocabulary is None else f", tokens below {data.task.vocabulary}"
    lines = [
        f"- Data set: `{run.recipe['data']['type']}` of nasframe, {len(data.train):,} examples for search "
        f"and training, {len(data.test):,} for testing.",
        f"- Inputs: {shape}{tokens}.",
    ]
    if isinstance(data.preprocess, NormalizeImages):
        mean, std = (
            ", ".join(f"{each:.4g}" for each in each_of)
            for each_of in (data.preprocess.mean, data.preprocess.std)
        )
        lines.append(f"- Normalization, on the scale 0 to 1: mean {mean}; standard deviation {std}.")
    for name, mean, deviation in zip(*vars(data.target_scale).values(), strict=True):
        lines.append(
            f"- Output: {_text(name)}, when multiplied by {deviation:.6g} and increased by {mean:.6g}."
        )
    if data.class_names:
        shown = ", ".join(map(_text, data.class_names[:_MOST_CLASSES]))
        left = len(data.class_names) - _MOST_CLASSES
        lines.append(f"- Classes: {shown}{f', and {left:,} more in `config.json`' if left > 0 else ''}.")
    return "\n".join(lines)


def _found(run: FinishedRun) -> str:
    search, lines = run.recipe["search"], []
    if run.recipe["genotype"] is not None:
        lines.append("- The architecture was given; nothing was searched.")
    elif search["explorer"] is not None:
        lines.append(
            f"- Explorer `{search['explorer']['type']}` by the score `{search['score']['type']}`, "
            f"{search['evaluations']:,} architectures."
        )
    else:
        lines.append(
            f"- Algorithm `{search['algorithm']['type']}` with the mixed op `{search['mixed_op']['type']}`, "
            f"derived by `{search['deriver']['type']}`."
        )
    if search["cost"] is not None and run.recipe["genotype"] is None:
        lines.append(f"- The search paid for the cost `{search['cost']['type']}` of the network.")
    if run.report.get("verdict"):
        lines.append(f"- The search, as nasframe judges it: {_text(run.report['verdict'])}.")
    if run.report.get("architecture"):
        lines.append(f"- Architecture, in the notation of its space: {_text(run.report['architecture'])}")
    lines.append("- All choices stand under `genotype` in `config.json`.")
    return "\n".join(lines)


def _cost(report: Mapping[str, Any]) -> str:
    environment = report.get("environment", {})
    device = environment.get("accelerator") or environment.get("device")
    rows = "\n".join(
        f"| {_text(each.stage)} | {duration(each.seconds)} | "
        f"{'not measured' if each.joules is None else joules(each.joules)} |"
        for each in stages_of(report)
    )
    return (
        f"On {_text(device)} with PyTorch {_text(environment.get('torch'))}; CPU threads: "
        f"{environment.get('threads')}, processes: {environment.get('ranks')}.\n\n"
        f"| stage | time | energy of the processors |\n|---|---|---|\n{rows}"
    )


def _limits(run: FinishedRun) -> str:
    lines = [
        "- Test examples come from where the training examples come from; of others nothing was measured.",
    ]
    if (seeds := run.recipe["retrain"]["seeds"]) > 1:
        lines.append(
            f"- Figures are of one search, and of the best of {seeds} trainings by validation; mean and std "
            "are over all of them."
        )
    else:
        lines.append("- Figures are of one search and one training; another seed gives others.")
    if run.data.class_names:
        lines.append(
            "- Any input is taken for one of the classes, whatever it is; probabilities are not calibrated."
        )
    lines += [f"- {_text(note)}" for note in run.report.get("notes", [])]
    lines.append("- No licence was chosen: who publishes this adds `license:` to the lines at the top.")
    return "\n".join(lines)


def _text(value: object) -> str:
    """Anything as text on one line that Markdown takes for text."""
    return _MARKUP.sub(r"\\\1", " ".join(str(value).split()))
