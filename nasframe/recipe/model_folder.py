"""A folder that a network is built from: ``config.json`` and ``model.safetensors``, plain data both."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

import nasframe
from nasframe.core import (
    AsGiven,
    Dataset,
    Genotype,
    Model,
    NormalizeImages,
    Objective,
    Predictor,
    Preprocess,
    Reader,
    Space,
    TargetScale,
    Task,
    derived,
    objectives,
)
from nasframe.core.json_text import read_json_file
from nasframe.core.tensor_file import load_weights
from nasframe.errors import FormatError, RecipeError, UnsupportedError
from nasframe.recipe.schema import plain, read_sections
from nasframe.recipe.tree import COMMAND_LINE, node_of
from nasframe.registry import Component
from nasframe.types import PositiveFloat, PositiveInt

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
_FORMAT, _VERSION = "nasframe.model", 1


@dataclass(frozen=True, kw_only=True)
class _Shapes:
    """What goes into the network and what comes out.

    Args:
        input_shape: Shape of one input, without the batch.
        num_outputs: Length of the output.
        vocabulary: Where inputs are tokens, how many there are.
    """

    input_shape: tuple[PositiveInt, ...]
    num_outputs: PositiveInt
    vocabulary: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class _Preprocessing:
    """How a file becomes an input.

    Args:
        reader: What reads it as a raw input; null where no file is one.
        mean: Mean of each channel on the scale 0 to 1; empty where inputs are taken as they are.
        std: Standard deviation of each channel, likewise.
    """

    reader: Component[Reader] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Description:
    """A trained network but for its weights and its genotype.

    Args:
        name: That of the recipe.
        task: Shapes of inputs and outputs.
        classes: Names of the outputs, where they are classes.
        preprocessing: From a file to an input.
        targets: From outputs to the numbers that the data have, where they are numbers.
        objective: Says what outputs mean.
        space: The blueprint.
    """

    name: str
    task: _Shapes
    classes: tuple[str, ...] = ()
    preprocessing: _Preprocessing = field(default_factory=_Preprocessing)
    targets: TargetScale = field(default_factory=TargetScale)
    objective: Component[Objective] = objectives.component("cross_entropy")
    space: Component[Space]


def describe(
    name: str,
    data: Dataset,
    space: Component[Space],
    objective: Component[Objective],
    genotype: Genotype,
) -> dict[str, Any]:
    """What ``config.json`` says of a network.

    Raises:
        UnsupportedError: It cannot be built again from plain data alone.
    """
    for component in (space, objective, data.reader):
        _refuse_paths(name, component)
    if isinstance(data.preprocess, NormalizeImages):
        mean, std = list(data.preprocess.mean), list(data.preprocess.std)
    elif isinstance(data.preprocess, AsGiven):
        mean, std = [], []
    else:
        raise UnsupportedError(
            f"{name}: the preprocessing must be NormalizeImages or AsGiven to be plain data, but is a "
            f"{type(data.preprocess).__name__}; let the data set give one of these"
        )
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "nasframe": nasframe.__version__,
        "name": name,
        "task": plain(data.task),
        "classes": list(data.class_names),
        "preprocessing": {"reader": plain(data.reader), "mean": mean, "std": std},
        "targets": plain(data.target_scale),
        "objective": plain(objective),
        "space": plain(space),
        "genotype": json.loads(genotype.to_json()),
    }


def set_weights(model: Model, path: Path) -> None:
    """Give a network the weights that a file has.

    Raises:
        FormatError: They are another network's.
    """
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise FormatError(f"{path}: must be the weights of the network: {error}") from error


def read_model_folder(folder: Path) -> Predictor:
    """The network that a folder holds; nothing in the folder is run.

    Memory is taken for it only when the weights have been found to be its.

    Raises:
        FormatError: A file is absent, or not what it must be; the message names it.
    """
    path = folder / CONFIG
    description, genotype = _read(path)
    shapes, preprocessing = description.task, description.preprocessing
    task = Task(shapes.input_shape, shapes.num_outputs, shapes.vocabulary)
    _check(path, description)
    try:
        objective, space = description.objective(), description.space(task)
        with torch.device("meta"):
            blueprint = derived(space, genotype).state_dict()
    except Exception as error:  # a space may make anything of numbers that nobody would choose
        raise FormatError(f"{path}: must describe a network that can be built, but: {error}") from error
    _check_weights(folder / WEIGHTS, blueprint)
    network = derived(space, genotype)
    set_weights(network, folder / WEIGHTS)
    normalized = NormalizeImages(preprocessing.mean, preprocessing.std) if preprocessing.mean else None
    preprocess: Preprocess = normalized or AsGiven()
    network.eval()
    return Predictor(
        network,
        task,
        preprocess,
        objective,
        description.classes,
        preprocessing.reader,
        description.targets,
    )


def _check_weights(path: Path, blueprint: Mapping[str, torch.Tensor]) -> None:
    """Refuse other tensors than those of a network."""
    expected = {name: tuple(each.shape) for name, each in blueprint.items()}
    found = {name: tuple(each.shape) for name, each in load_weights(path).items()}
    if different := sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)):
        name = different[0]
        raise FormatError(
            f"{path}: must hold the tensors of the network that {CONFIG} describes, but {len(different)} "
            f"differ; `{name:.80}` must be {expected.get(name, 'absent')}, got {found.get(name, 'none')}"
        )


def _read(path: Path) -> tuple[_Description, Genotype]:
    content = read_json_file(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FormatError(
            f"{path}: must be an object with format `{_FORMAT}`; write it by `nasframe export --format hub`"
        )
    if type(content.get("version")) is not int or content["version"] != _VERSION:
        raise FormatError(
            f"{path}: version must be {_VERSION}, got {content.get('version')!r:.80}; read it with the "
            "nasframe that wrote it, or a newer one"
        )
    about = ("format", "version", "nasframe", "genotype")
    tree = node_of({key: each for key, each in content.items() if key not in about}, COMMAND_LINE)
    try:
        description = read_sections(_Description, tree, (), "the description")
        for component in (description.space, description.objective, description.preprocessing.reader):
            _refuse_paths(description.name, component)
        return description, Genotype.from_json(json.dumps(content.get("genotype")))
    except RecipeError as error:
        first, *others = error.problems
        given = f", got {first.given}" if first.given else ""
        advice = f"; {first.advice}" if first.advice else ""
        more = f" (and {len(others)} more)" if others else ""
        raise FormatError(f"{path}: {first.path}: {first.rule}{given}{advice}{more}") from error
    except (FormatError, UnsupportedError) as error:
        raise FormatError(f"{path}: {error}") from error


def _check(path: Path, description: _Description) -> None:
    """Refuse parts that do not fit each other."""
    shapes, steps = description.task, description.preprocessing
    if len(description.classes) not in (0, shapes.num_outputs):
        raise FormatError(
            f"{path}: classes must be {shapes.num_outputs} names, as task.num_outputs says, or none, got "
            f"{len(description.classes)}"
        )
    lengths = {len(each) for each in plain(description.targets).values()}
    if lengths not in ({0}, {shapes.num_outputs}):
        raise FormatError(
            f"{path}: targets must have a name, a mean and a deviation for each of {shapes.num_outputs} "
            f"outputs, as task.num_outputs says, or none, got {plain(description.targets)!r:.80}"
        )
    channels = shapes.input_shape[0] if steps.mean and shapes.input_shape else 0
    if not len(steps.mean) == len(steps.std) == channels:
        raise FormatError(
            f"{path}: preprocessing must have a mean and a std for each of {channels} channels, or none, got "
            f"{len(steps.mean)} and {len(steps.std)}"
        )


def _refuse_paths(name: str, component: Component[Any] | None) -> None:
    """Refuse what is not in the folder."""
    if component is not None and (path := next(_paths(component), None)) is not None:
        raise UnsupportedError(
            f"{name}: a network in a folder must not need files elsewhere, but `{component.name}` of the "
            f"{component.registry} names {path}; build it from settings alone"
        )


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    parts = value.settings if isinstance(value, Component) else value
    if isinstance(parts, Mapping):
        parts = list(parts.values())
    for part in parts if isinstance(parts, (list, tuple)) else ():
        yield from _paths(part)
