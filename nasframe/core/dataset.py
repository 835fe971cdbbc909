"""Datasets: examples in splits, and how raw inputs become a network's inputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar, final

import torch

from nasframe.core.batch import Batch, map_tensors, tensors_of
from nasframe.core.random_state import generator_for
from nasframe.core.reader import Reader
from nasframe.core.task import Task
from nasframe.errors import DataError
from nasframe.registry import Component, Registry
from nasframe.types import PositiveFloat

_PIECE: Final = 4096  # examples that are read at once


class Split(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...

    def batch(self, indices: torch.Tensor) -> Batch:
        """The examples at `indices` (int64, of shape B), raw, on the host."""


class Preprocess(Protocol):
    """How raw inputs, on their device, become what the network takes: `normalize` after `scale`.

    Augmentations work between the two, those that say `after_normalization` after both.
    """

    def scale(self, inputs: Any) -> Any: ...

    def normalize(self, inputs: Any) -> Any: ...


@final
class TensorSplit:
    """A split that is held in memory: `inputs` and `targets` are tensors (or nests of them), N first."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self._all = Batch(inputs, targets)

    def __len__(self) -> int:
        return len(self._all)

    def batch(self, indices: torch.Tensor) -> Batch:
        def pick(tensor: torch.Tensor) -> torch.Tensor:
            return tensor[indices]

        return Batch(map_tensors(pick, self._all.inputs), map_tensors(pick, self._all.targets))


@final
class Subset:
    """Some examples of a split, in the order of `indices` (int64)."""

    def __init__(self, split: Split, indices: torch.Tensor) -> None:
        self._split, self.indices = split, indices

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: torch.Tensor) -> Batch:
        return self._split.batch(self.indices[indices])


@final
class ResidentSplit:
    """A split whose examples were all read and put on a device, where batches are picked.

    Args:
        split: Its batches are equal in shape but for their number, whichever examples they have.
        device: Where they are held; it must have the memory.
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split, self._device = split, device
        pieces = [split.batch(some).to(device) for some in torch.split(torch.arange(len(split)), _PIECE)]
        others = iter(zip(*(tensors_of((each.inputs, each.targets)) for each in pieces), strict=True))

        def joined(_: torch.Tensor) -> torch.Tensor:
            return torch.cat(next(others))

        inputs, targets = map_tensors(joined, (pieces[0].inputs, pieces[0].targets))
        self._all = TensorSplit(inputs, targets)

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, indices: torch.Tensor) -> Batch:
        return self._all.batch(indices.to(self._device))


def is_in_memory(split: Split) -> bool:
    """Whether the examples are held by the host, so that none has to be read from a file."""
    while isinstance(split, (Subset, CheckedSplit)):
        split = split._split
    return isinstance(split, TensorSplit)


def known_targets(split: Split) -> Any:
    """The targets of all examples that the host holds; None where they would have to be read from files."""
    if isinstance(split, TensorSplit):
        return split._all.targets
    if isinstance(split, CheckedSplit):
        return known_targets(split._split)
    if isinstance(split, Subset) and (targets := known_targets(split._split)) is not None:
        return map_tensors(lambda tensor: tensor[split.indices], targets)
    return None


def size_in_bytes(split: Split) -> int:
    """What all examples take, if each takes what the first one does; 0 without any."""
    if not len(split):
        return 0
    first = split.batch(torch.arange(1))
    return len(split) * sum(tensor.nbytes for tensor in tensors_of((first.inputs, first.targets)))


def origin(split: Split, indices: torch.Tensor) -> torch.Tensor:
    """What examples of a split are counted as in the split that it is, after all, a part of."""
    if isinstance(split, ResidentSplit):
        return origin(split._split, indices)
    return origin(split._split, split.indices[indices]) if isinstance(split, Subset) else indices


@final
class NormalizeImages:
    """Raw uint8 images B C H W to floats of mean 0 and deviation 1 for each channel.

    Args:
        mean: Mean of each channel on the scale 0 to 1.
        std: Standard deviation of each channel, likewise.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = mean, std

    def scale(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 to floats from 0 to 1."""
        return images.float() / 255

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Floats from 0 to 1 to mean 0 and deviation 1."""
        mean = torch.tensor(self.mean, device=images.device)[:, None, None]
        std = torch.tensor(self.std, device=images.device)[:, None, None]
        return (images - mean) / std

    @classmethod
    def of(cls, images: torch.Tensor) -> "NormalizeImages":
        """From the statistics of raw images N C H W."""
        # by counting the levels, since all images as floats would take eight times their memory
        counts = torch.stack(
            [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
        )
        shares = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean = shares @ levels
        std = (shares * (levels - mean[:, None]).square()).sum(1).sqrt()
        return cls(tuple(mean.tolist()), tuple(std.clamp(min=1e-6).tolist()))


@final
class AsGiven:
    """Inputs that the network takes as they are."""

    def scale(self, inputs: Any) -> Any:
        """The inputs."""
        return inputs

    def normalize(self, inputs: Any) -> Any:
        """The inputs."""
        return inputs


@final
@dataclass(frozen=True, kw_only=True)
class TargetScale:
    """What targets that are numbers were before they were scaled: target times deviation plus mean.

    All are empty where targets are no numbers, or are as they were.

    Attributes:
        names: What the numbers are called, one an output.
        means: What was taken from each.
        deviations: What each was divided by then.
    """

    names: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    deviations: tuple[PositiveFloat, ...] = ()

    def restore(self, numbers_BK: torch.Tensor) -> torch.Tensor:
        """Numbers as they were before they were scaled, in float64."""
        numbers_BK = numbers_BK.double()
        if not self.names:
            return numbers_BK
        means_K, deviations_K = (
            torch.tensor(each, dtype=torch.float64, device=numbers_BK.device)
            for each in (self.means, self.deviations)
        )
        return numbers_BK * deviations_K + means_K


@final
@dataclass(frozen=True)
class Dataset:
    """Examples to learn from and to test on.

    Attributes:
        train: What search and retraining may see; they hold out their validation from it.
        test: Seen once, by the finished network.
        task: Shapes of inputs and outputs.
        preprocess: From raw inputs to network inputs; statistics come from `train` alone.
        class_names: Names of the outputs, where they are classes.
        reader: How a file becomes a raw input such as those of the splits; None where no file does.
        target_scale: What targets are called and were before they were scaled, where they are numbers.
    """

    train: Split
    test: Split
    task: Task
    preprocess: Preprocess = AsGiven()
    class_names: tuple[str, ...] = ()
    reader: Component[Reader] | None = None
    target_scale: TargetScale = TargetScale()


@final
class CheckedSplit:
    """A split whose class labels are looked at when they are read.

    Args:
        split: The examples.
        name: What it is called, such as ``train``.
        num_classes: Whole numbers among the targets must be below it, and none of them negative.
    """

    def __init__(self, split: Split, name: str, num_classes: int) -> None:
        self._split, self._name, self._num_classes = split, name, num_classes

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, indices: torch.Tensor) -> Batch:
        batch = self._split.batch(indices)
        labels = batch.targets
        if isinstance(labels, torch.Tensor) and labels.dtype == torch.int64 and labels.dim() == 1:
            wrong = ((labels < 0) | (labels >= self._num_classes)).nonzero().flatten()
            if len(wrong):
                raise DataError(
                    f"data: the label of {self._name} example {int(indices[wrong[0]])} must be from 0 to "
                    f"{self._num_classes - 1}, got {int(labels[wrong[0]])}; correct or remove it"
                )
        return batch


def checked(data: Dataset) -> Dataset:
    """A data set whose class labels are looked at when they are read; its first inputs are looked at now.

    Raises:
        DataError: A split is empty, or its inputs are not of the shape that the task says.
    """
    splits: dict[str, Split] = {"train": data.train, "test": data.test}
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"data: there must be {name} examples, but there are none")
        inputs = data.preprocess.normalize(data.preprocess.scale(split.batch(torch.arange(1)).inputs))
        if isinstance(inputs, torch.Tensor) and tuple(inputs.shape[1:]) != tuple(data.task.input_shape):
            raise DataError(
                f"data: inputs must have the shape {tuple(data.task.input_shape)} (for images: channels, "
                f"height, width), but {name} example 0 has {tuple(inputs.shape[1:])}; correct either"
            )
        if data.class_names:
            splits[name] = CheckedSplit(split, name, data.task.num_outputs)
    return replace(data, train=splits["train"], test=splits["test"])


datasets: Registry[Dataset] = Registry("datasets", Dataset)

MakeDataset = TypeVar("MakeDataset", bound=Callable[..., Dataset])


@final
@dataclass(frozen=True)
class Preview:
    """What is known of a dataset before it is read.

    Attributes:
        task: Shapes of inputs and outputs.
        num_train: Training examples; None where only reading tells.
    """

    task: Task
    num_train: int | None = None


def previewed_by(preview: Callable[..., Preview | None]) -> Callable[[MakeDataset], MakeDataset]:
    """Decorate a dataset with a function of the same settings that tells what needs little reading.

    With it the spaces of a recipe are checked before a run starts. It returns None where it cannot tell,
    such as where a file is not there, which is told otherwise.
    """

    def decorate(make: MakeDataset) -> MakeDataset:
        make.preview = preview  # type: ignore[attr-defined]
        return make

    return decorate


def preview_of(make: Callable[..., Dataset], **settings: Any) -> Preview | None:
    """What a dataset with these settings will be; None where it does not say.

    Raises:
        DataError: There can be no such dataset.
    """
    preview: Callable[..., Preview | None] | None = getattr(make, "preview", None)
    return None if preview is None else preview(**settings)


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split into (rest, held out), disjoint and together all; the drawing depends on `seed` alone.

    Raises:
        DataError: One side would be empty although `fraction` is not 0.
    """
    count = round(len(split) * fraction)
    if fraction > 0 and not 0 < count < len(split):
        raise DataError(f"valid_fraction {fraction} of {len(split)} examples leaves one side empty")
    order = torch.randperm(len(split), generator=generator_for(seed, "hold_out"))
    return Subset(split, order[count:]), Subset(split, order[:count])
