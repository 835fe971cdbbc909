"""Images of one's own: a folder of folders, one a class."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
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
_OF_SYSTEMS: Final = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
_TEST_FRACTION: Final = 0.2
_MOST_NAMED: Final = 5


class _Files(NamedTuple):
    """The images of each class, by its name; every class has some on both sides."""

    train: Mapping[str, Sequence[Path]]
    test: Mapping[str, Sequence[Path]]


def _preview(
    *, path: Path, size: int, test_fraction: float | None, unreadable: str = "stop"
) -> Preview | None:
    if not path.is_dir():
        return None
    skip = unreadable == "skip"
    train, _ = _listed(path, test_fraction, _reader(size)().suffixes, skip)
    count = None if skip else sum(map(len, train.values()))
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
    are passed over, and so is what systems leave (``Thumbs.db``, ``desktop.ini``, ``__MACOSX``) and what lies
    beside the folders of the classes and is no image.

    An image is turned as its EXIF data says, made RGB (transparency is dropped), scaled so that its shorter
    side has `size` pixels, and its middle is cut out.

    Args:
        path: The folder.
        size: Height and width of an image in pixels.
        test_fraction: Share of each class's images that are for testing, at least one; null means the folder
            ``test``, or 0.2 where there is none. Which images these are depends on their names alone.
        unreadable: What happens with a file of a class that is no image, or one that cannot be decoded.
            `skip` leaves it out, and tells how many were left out in each split.

    Raises:
        DataError: A file is no image, a class is empty, unknown or alone; the message names it.
    """
    component = _reader(size)
    reader = component()
    skip = unreadable == "skip"
    train, test = _listed(path, test_fraction, reader.suffixes, skip)
    task = Task((3, size, size), len(train))
    train_images, train_labels = _read(train, task, reader, skip)
    return Dataset(
        TensorSplit(train_images, train_labels),
        TensorSplit(*_read(test, task, reader, skip)),
        task,
        NormalizeImages.of(train_images),
        tuple(train),
        component,
    )


def _reader(size: int) -> Component[Reader]:
    return readers.component("image", height=size, width=size, channels=3)


def _listed(path: Path, test_fraction: float | None, suffixes: tuple[str, ...], skip: bool) -> _Files:
    folders = _folders(path)
    if not folders or not {folder.name for folder in folders} <= _SPLITS:
        train, test = _drawn(
            _classes(path, suffixes, skip), _TEST_FRACTION if test_fraction is None else test_fraction
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
    found = {folder.name: _classes(folder, suffixes, skip) for folder in folders}
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
    return [each for each in _listing(path) if each.is_dir()]


def _classes(path: Path, suffixes: tuple[str, ...], skip: bool) -> dict[str, list[Path]]:
    """The files of each class, sorted by name.

    Args:
        path: Has the folders of the classes.
        suffixes: Those that images have.
        skip: Whether files with others may be among them, which are left out later.

    Raises:
        DataError: An image is in no class, a class has none or something else, or there are fewer than two.
    """
    loose = _images_in(path, suffixes)
    contents = {folder: _listing(folder) for folder in _folders(path)}
    _check_level(path, loose, contents, suffixes)
    inner = [each for files in contents.values() for each in files if each.is_dir()]
    odd = [
        each
        for files in contents.values()
        for each in files
        if not (skip or each.suffix.lower() in suffixes or each.is_dir())
    ]
    problems = [
        *_told(loose, "must lie in the folder of a class, not beside it", "move it there"),
        *_told(
            inner,
            "must be an image, as it lies in the folder of a class, but is a folder",
            f"move it away, or if it is a class itself, give path: {inner[0].parent if inner else ''}",
        ),
        *_told(
            odd,
            f"must be an image ({', '.join(suffixes)}), as it lies in the folder of a class",
            "convert it (such as to JPEG), move it away, or set unreadable: skip to leave it out",
        ),
        *(
            f"{folder}: must hold images of the class `{folder.name}`, but is empty; add some"
            for folder, files in contents.items()
            if not files
        ),
    ]
    if problems:
        raise DataError("\n".join(problems))
    if len(contents) < 2:
        found = f"only `{next(iter(contents)).name}`" if contents else "none"
        raise DataError(f"{path}: must have folders of at least two classes, but has {found}")
    return {folder.name: files for folder, files in contents.items()}


def _listing(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files and what systems leave there."""
    return sorted(
        each for each in folder.iterdir() if not each.name.startswith(".") and each.name not in _OF_SYSTEMS
    )


def _images_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The images that lie in a folder itself, by their names."""
    return [file for file in _listing(folder) if file.suffix.lower() in suffixes and file.is_file()]


def _check_level(
    path: Path,
    loose: Sequence[Path],
    contents: Mapping[Path, Sequence[Path]],
    suffixes: tuple[str, ...],
) -> None:
    """Refuse a folder that is one level too high or too low.

    Raises:
        DataError: It names the folder that is meant.
    """
    if loose and not contents:
        beside = _folders(path.parent)
        advice = (
            f"did you mean path: {path.parent}?"
            if len(beside) > 1 and all(_images_in(each, suffixes) for each in beside)
            else f"make them, such as {path / 'cat'}, and move each image into that of its class"
        )
        raise DataError(
            f"{path}: must have a folder for each class, with its images, but has images ({len(loose)}) and "
            f"no folder; {advice}"
        )
    if len(contents) == 1 and not loose:
        ((folder, inner),) = contents.items()
        if inner and all(map(Path.is_dir, inner)):
            raise DataError(
                f"{path}: must have a folder for each class, but has only `{folder.name}`, with folders in "
                f"it; did you mean path: {folder}?"
            )


def _told(files: Sequence[Path], rule: str, advice: str) -> Iterator[str]:
    """What is wrong with some files, in a sentence that names some of them; nothing where there are none."""
    if files:
        also = f", and so must {len(files) - 1} more ({_named(files[1:])})" if len(files) > 1 else ""
        yield f"{files[0]}: {rule}{also}; {advice}"


def _named(files: Sequence[Path]) -> str:
    """Some of the files, each with its folder."""
    names = [str(Path(each.parent.name, each.name)) for each in files[:_MOST_NAMED]]
    return ", ".join([*names, *(["…"] if len(files) > _MOST_NAMED else [])])


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


def _read(
    classes: Mapping[str, Sequence[Path]], task: Task, reader: Reader, skip: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N 3 H W) and labels (int64, N), without those that shall be skipped."""
    files = [(file, label) for label, files in enumerate(classes.values()) for file in files]
    images = torch.empty(len(files), *task.input_shape, dtype=torch.uint8)
    labels: list[int] = []
    skipped: list[DataError] = []
    left_out: list[Path] = []
    for file, label in files:
        try:
            images[len(labels)] = reader.read(file)
        except DataError as error:
            skipped.append(error)
            left_out.append(file)
        else:
            labels.append(label)
    if skipped and not skip:
        others = f"; so it is with {len(skipped) - 1} more ({_named(left_out[1:])})" if skipped[1:] else ""
        raise DataError(f"{skipped[0]}{others}, or set unreadable: skip to leave such images out")
    if skipped:
        warnings.warn(
            f"image_folder: {len(skipped)} of {len(files)} images are left out, the first: {skipped[0]}",
            FaultWarning,
            stacklevel=3,
        )
    if empty := [name for label, name in enumerate(classes) if label not in labels]:
        raise DataError(f"image_folder: no image of the class `{empty[0]}` can be decoded; add some")
    return images[: len(labels)], torch.tensor(labels)
