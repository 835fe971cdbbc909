"""Datasets, augmentations and objectives."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nasframe.core import Augmentation, Batch, Dataset, Objective, Reader, generator_for, map_tensors
from nasframe.errors import DataError
from nasframe.testing._verdict import check_metrics, plain, require, same, shapes


def check_dataset(factory: Callable[[], Dataset]) -> None:
    """Check a dataset: splits by index, shapes as its task says, the same each time.

    Args:
        factory: Builds the dataset.

    Raises:
        ComponentError: What must be changed.
    """
    dataset, again = factory(), factory()
    splits = {"train": (dataset.train, again.train), "test": (dataset.test, again.test)}
    for name, (split, twin) in splits.items():
        where = f"dataset, {name}"
        require(len(split) > 0, f"{where}: must have examples; read some, or refuse to be made")
        indices = torch.tensor([len(split) - 1, 0, len(split) // 2])
        batch = split.batch(indices)
        require(
            same(plain(batch), plain(twin.batch(indices))),
            f"{where}: must be the same each time it is made; draw from a generator with a seed",
        )
        single = split.batch(indices[1:2])
        require(
            len(batch) == 3 and same(plain(single), plain(batch, slice(1, 2))),
            f"{where}: batch(indices) must hold the examples at `indices`, in their order; "
            "index each tensor by them",
        )
        _check_inputs(where, dataset, split.batch(indices))
        _check_classes(where, dataset, batch)
    require(
        dataset.reader is None or isinstance(dataset.reader(), Reader),
        'dataset: reader must be one of the readers; write readers.component("image", height=…, width=…)',
    )


def _check_inputs(where: str, dataset: Dataset, batch: Batch) -> None:
    before = copy.deepcopy(plain(batch))
    inputs = dataset.preprocess.normalize(dataset.preprocess.scale(batch.inputs))
    require(
        same(before, plain(batch)),
        f"{where}: preprocess must not change raw inputs in place; return new ones",
    )
    if isinstance(inputs, torch.Tensor):
        shape = (len(batch), *dataset.task.input_shape)
        require(
            tuple(inputs.shape) == shape and inputs.is_floating_point() and bool(inputs.isfinite().all()),
            f"{where}: preprocessed inputs must be finite floats of shape {shape} (the task's), "
            f"got {inputs.dtype} of shape {tuple(inputs.shape)}; correct preprocess or the task",
        )


def _check_classes(where: str, dataset: Dataset, batch: Batch) -> None:
    names, count = dataset.class_names, dataset.task.num_outputs
    require(
        not names or len(names) == count,
        f"{where}: class_names must have {count} names, one an output of the task, got {len(names)}; "
        "correct them or the task",
    )
    scale = dataset.target_scale
    require(
        {len(scale.names), len(scale.means), len(scale.deviations)} in ({0}, {count}),
        f"{where}: target_scale must have a name, a mean and a deviation for each of {count} outputs of the "
        f"task, or none, got {scale}; correct it or the task",
    )
    targets = batch.targets
    if isinstance(targets, torch.Tensor) and targets.dtype == torch.int64 and targets.dim() == 1:
        require(
            bool(((targets >= 0) & (targets < count)).all()),
            f"{where}: classes must be from 0 to {count - 1}, got {targets.tolist()}; "
            "correct them or the task",
        )


def check_reader(factory: Callable[[], Reader], file: Path) -> None:
    """Check a reader: the same each time, of one shape, and what cannot be read is refused by name.

    Args:
        factory: Builds the reader.
        file: One that it can read.

    Raises:
        ComponentError: What must be changed.
    """
    reader, where = factory(), type(factory()).__name__
    require(
        all(suffix.startswith(".") and suffix == suffix.lower() for suffix in reader.suffixes),
        f"{where}: suffixes must be such as `.png`, in lower case, got {reader.suffixes}; correct them",
    )
    require(
        torch.equal(reader.read(file), factory().read(file)),
        f"{where}: must read a file the same each time; draw nothing",
    )
    absent = file.with_name(f"no {file.name}")
    try:
        reader.read(absent)
    except DataError as error:
        require(absent.name in str(error), f"{where}: an error must name its file, got {error}; add the path")
    else:
        require(False, f"{where}: must refuse a file that is not there; raise a DataError")


def check_augmentation(factory: Callable[[], Augmentation], batch: Batch | None = None) -> None:
    """Check an augmentation: the shapes stay, and all randomness comes from the generator.

    Args:
        factory: Builds the augmentation.
        batch: What it is tried on; colored images of 8 x 8 unless given.

    Raises:
        ComponentError: What must be changed.
    """
    batch = batch or Batch(torch.rand(6, 3, 8, 8), torch.arange(6) % 3)
    augmentation = factory()
    if augmentation.mixes_targets and batch.targets.dtype == torch.int64:
        batch = Batch(batch.inputs, torch.eye(int(batch.targets.max()) + 1)[batch.targets])
    where = type(augmentation).__name__
    before, state = copy.deepcopy(plain(batch)), torch.get_rng_state()
    results = [augmentation(batch, generator_for(5, "check")) for _ in range(2)]
    require(same(before, plain(batch)), f"{where}: must not change the batch in place; return a new one")
    require(
        same(plain(results[0]), plain(results[1])) and torch.equal(state, torch.get_rng_state()),
        f"{where}: must draw from the `generator` that it is given, and from nothing else; pass it on",
    )
    got, want = plain(results[0])[0], before[0]
    require(
        len(results[0]) == len(batch) and shapes(got) == shapes(want),
        f"{where}: must keep the number and the shape of the inputs {shapes(want)}, got {shapes(got)}; "
        "pad or crop",
    )


def check_objective(
    factory: Callable[[], Objective],
    outputs: Any = None,
    targets: Any = None,
) -> None:
    """Check an objective: loss and metrics are means, so that chunks of a batch can be put together.

    Args:
        factory: Builds the objective.
        outputs: What a model returns for a batch, of at least 4 examples; logits of 4 classes
            unless given.
        targets: What they are compared with.

    Raises:
        ComponentError: What must be changed.
    """
    generator = generator_for(0, "check_objective")
    outputs = torch.randn(12, 4, generator=generator) if outputs is None else outputs
    targets = torch.arange(12) % 4 if targets is None else targets
    objective = factory()
    where = type(objective).__name__
    outputs = map_tensors(lambda tensor: tensor.detach().requires_grad_(), outputs)
    whole = objective.loss(outputs, targets)
    require(
        whole.dim() == 0 and bool(whole.isfinite()),
        f"{where}: loss must be one finite number, got shape {tuple(whole.shape)}; take the mean",
    )
    require(whole.requires_grad, f"{where}: loss must have a gradient; compute it with tensors, not numbers")
    metrics = objective.metrics(outputs, targets)
    check_metrics(where, metrics)
    require(
        "loss" not in metrics,
        f"{where}: metrics must not be called `loss`, which is the loss itself; rename it",
    )
    batch = Batch(outputs, targets)
    first, rest = len(batch) // 4, len(batch) - len(batch) // 4
    parts = [plain(batch, slice(0, first)), plain(batch, slice(first, None))]
    values = [{"loss": objective.loss(*part).detach(), **objective.metrics(*part)} for part in parts]
    for name, value in {"loss": whole.detach(), **metrics}.items():
        mean = (first * float(values[0][name]) + rest * float(values[1][name])) / len(batch)
        require(
            math.isclose(mean, float(value), rel_tol=1e-4, abs_tol=1e-5),
            f"{where}: `{name}` must be a mean over the examples: a batch gives {float(value):.6g}, "
            f"its parts together {mean:.6g}; do not sum, nor compare examples with each other",
        )
