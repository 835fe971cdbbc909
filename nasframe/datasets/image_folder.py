"""Images of one's own: a folder of folders, one a class."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch

from nasframe.core import (
    Dataset,
    NormalizeImages,
    Preview,
    Reader,
    Task,
    TensorSplit,
    datasets,
    generator_for,
    previewed_by,
    readers,
)
from nasframe.errors import DataError, FaultWarning
from nasframe.registry import Component
from nasframe.types import ExistingFolder, PositiveInt, ProperFraction

_SPLITS: Final = {"train", "valid", "test"}
_OF_SYSTEMS: Final = frozenset({"Thumbs.db", "desktop.ini"})
_TEST_FRACTION: Final = 0.2
_MOST_NAMED: Final = 10


class _Files(NamedTuple):
    """The images of each class, by its name; every class has some on both sides."""

    train: Mapping[str, Sequence[Path]]
    test: Mapping[str, Sequence[Path]]


def _preview(
    *, path: Path, size: int, test_fraction: float | None, unreadable: str = "stop"
) -> Preview | None:
    if not path.is_dir():
        return None
    train, _ = _listed(path, test_fraction, _reader(size)().suffixes)
    count = sum(map(len, train.values())) if unreadable == "stop" else None
    return Preview(Task((3, size, size), len(train)), count)


@datasets.register("image_folder")
@previewed_by(_preview)
def image_folder(
    *,
    path: ExistingFolder,
    size: PositiveInt = 32,
    test_fraction: ProperFraction | None = None,
    unreadable: Literal["stop", "skip"] = "stop",
) -> Dataset:
    """Images in a folder that has a folder for each class, as RGB of one size, all held in memory.

    The folders of the classes lie in `path` itself, or in ``train`` and ``test`` there. What is in ``valid``
    beside these belongs to the training images, since search and retraining hold out their own. Hidden files
    are passed over, and so are those that systems leave (``Thumbs.db``, ``desktop.ini``) and what lies beside
    the folders of the classes and is no image.

    An image is turned as its EXIF data says, made RGB (transparency is dropped), scaled so that its shorter
    side has `size` pixels, and its middle is cut out.

    Args:
        path: The folder.
        size: Height and width of an image in pixels.
        test_fraction: Share of each class's images that are for testing, at least one; null means the folder
            ``test``, or 0.2 where there is none. Which images these are depends on their names alone.
        unreadable: What happens with an image that cannot be decoded. `skip` leaves it out, and tells how
            many were left out in each split.

    Raises:
        DataError: A file is no image, a class is empty, unknown or alone; the message names it.
    """
    component = _reader(size)
    reader = component()
    train, test = _listed(path, test_fraction, reader.suffixes)
    task, skip = Task((3, size, size), len(train)), unreadable == "skip"
    splits = [_read(files, task, reader) for files in (train, test)]
    failures = [each.failures for each in splits]
    if not skip and (failed := {file: error for each in failures for file, error in each.items()}):
        first, *others = failed
        also = f"; so it is with {_named(others)}" if others else ""
        raise DataError(f"{failed[first]}{also}, or set unreadable: skip to leave such images out")
    for each in splits:
        each.tell(list(train))
    return Dataset(
        TensorSplit(splits[0].images, splits[0].labels),
        TensorSplit(splits[1].images, splits[1].labels),
        task,
        NormalizeImages.of(splits[0].images),
        tuple(train),
        component,
    )


def _reader(size: int) -> Component[Reader]:
    return readers.component("image", height=size, width=size, channels=3)


def _listed(path: Path, test_fraction: float | None, suffixes: tuple[str, ...]) -> _Files:
    folders = _folders(path)
    if not folders or not {folder.name for folder in folders} <= _SPLITS:
        train, test = _drawn(
            _classes(path, suffixes), _TEST_FRACTION if test_fraction is None else test_fraction
        )
        return _Files(train, test)
    if missing := {"train", "test"} - {folder.name for folder in folders}:
        raise DataError(
            f"image_folder: {path} must have a folder for each class, or the folders train and test with "
            f"these in them, but has no {' and no '.join(sorted(missing, reverse=True))}; add what is missing"
        )
    if test_fraction is not None:
        raise DataError(
            f"image_folder: test_fraction must not be given where there is {path / 'test'}, got "
            f"{test_fraction}; leave it out, or move the images of both into folders of the classes alone"
        )
    found = {folder.name: _classes(folder, suffixes) for folder in folders}
    for name, classes in found.items():
        if odd := sorted(classes.keys() ^ found["train"].keys()):
            lacking, having = (name, "train") if odd[0] in found["train"] else ("train", name)
            raise DataError(
                f"{path / lacking}: must have the same classes as {path / having}, but has no `{odd[0]}`; "
                "add its images, or remove it there"
            )
    valid = found.get("valid", {})
    train = {name: [*files, *valid.get(name, ())] for name, files in found["train"].items()}
    return _Files(train, found["test"])


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _classes(path: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """The images of each class, sorted by name.

    Raises:
        DataError: An image is in no class, a class has none, or there are fewer than two classes.
    """
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith("."):
            raise DataError(f"{file}: must lie in the folder of a class, not beside it; move it there")
    classes = {folder.name: _images(folder, suffixes) for folder in _folders(path)}
    if len(classes) < 2:
        found = f"only `{next(iter(classes))}`" if classes else "none"
        raise DataError(f"{path}: must have folders of at least two classes, but has {found}")
    return classes


def _images(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(
        each for each in folder.iterdir() if not each.name.startswith(".") and each.name not in _OF_SYSTEMS
    )
    if inner := next((file for file in files if file.is_dir()), None):
        raise DataError(
            f"{inner}: must be an image, as it lies in the folder of a class, but is a folder; move it away, "
            f"or if it is a class itself, give path: {folder}"
        )
    if odd := [file for file in files if file.suffix.lower() not in suffixes]:
        others = f", and so must {_named(odd[1:])}" if len(odd) > 1 else ""
        raise DataError(
            f"{odd[0]}: must be an image ({', '.join(suffixes)}), as it lies in the folder of a class"
            f"{others}; convert it, or move it away"
        )
    if not files:
        raise DataError(f"{folder}: must hold images of the class `{folder.name}`, but is empty; add some")
    return files


def _drawn(classes: Mapping[str, list[Path]], fraction: float) -> _Files:
    """The images of each class in two, the same way each time."""
    train, test = {}, {}
    for name, files in classes.items():
        count = max(1, round(len(files) * fraction))
        if count >= len(files):
            raise DataError(
                f"{files[0].parent}: test_fraction {fraction:g} must leave images of the class `{name}` to "
                f"train on, but it has {len(files)} in all; add some, or take less for testing"
            )
        order = torch.randperm(len(files), generator=generator_for(0, "image_folder", name)).tolist()
        train[name] = [files[index] for index in sorted(order[count:])]
        test[name] = [files[index] for index in sorted(order[:count])]
    return _Files(train, test)


def _named(files: Sequence[Path]) -> str:
    """Some of several files by name, and how many more there are."""
    shown = ", ".join(str(file) for file in files[:_MOST_NAMED])
    rest = len(files) - _MOST_NAMED
    return f"{shown} and {rest} more" if rest > 0 else shown


class _Images(NamedTuple):
    """The images of a split (uint8, N 3 H W), their labels (int64, N), and why others cannot be decoded."""

    images: torch.Tensor
    labels: torch.Tensor
    failures: Mapping[Path, DataError]

    def tell(self, classes: Sequence[str]) -> None:
        """Warn of the images that are left out, and refuse a class without any."""
        if self.failures:
            total = len(self.labels) + len(self.failures)
            warnings.warn(
                f"image_folder: {len(self.failures)} of {total} images are left out, the first: "
                f"{next(iter(self.failures.values()))}",
                FaultWarning,
                stacklevel=3,
            )
        if empty := [name for label, name in enumerate(classes) if label not in self.labels]:
            raise DataError(f"image_folder: no image of the class `{empty[0]}` can be decoded; add some")


def _read(classes: Mapping[str, Sequence[Path]], task: Task, reader: Reader) -> _Images:
    files = [(file, label) for label, files in enumerate(classes.values()) for file in files]
    images = torch.empty(len(files), *task.input_shape, dtype=torch.uint8)
    labels: list[int] = []
    failures: dict[Path, DataError] = {}
    for file, label in files:
        try:
            images[len(labels)] = reader.read(file)
        except DataError as error:
            failures[file] = error
        else:
            labels.append(label)
    return _Images(images[: len(labels)], torch.tensor(labels, dtype=torch.int64), failures)
