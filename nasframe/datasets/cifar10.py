"""CIFAR-10, from the Hugging Face hub or from a folder of its Parquet files."""

import hashlib
import io
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from nasframe.core import (
    Dataset,
    NormalizeImages,
    Preview,
    Task,
    TensorSplit,
    datasets,
    generator_for,
    previewed_by,
    readers,
)
from nasframe.datasets._hub import check_commit, files_of
from nasframe.errors import DataError, FaultWarning
from nasframe.types import ExistingFolder, PositiveInt

if TYPE_CHECKING:
    import pyarrow

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_IMAGE_COLUMNS = ("img", "image")
_FORMATS = ("PNG", "JPEG")  # Pillow starts programs for some others
_SIZE = (32, 32)
_TASK = Task((3, *_SIZE), len(CLASS_NAMES))
_NUM_TRAIN = 50_000
_SPLITS = ("train", "test")
_REVISION = "0b2714987fa478483af9968de7c934580d0bb9a2"
_DIGESTS = {
    "train-00000-of-00001.parquet": "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    "test-00000-of-00001.parquet": "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
}
"""SHA-256 of the files of ``uoft-cs/cifar10`` at that commit, so that the hub need not be believed."""
_MAX_ROWS = 1_000_000  # a small file may say that it has very many, all alike


def _preview(
    *,
    revision: str = _REVISION,
    train_limit: int | None = None,
    unreadable: str = "stop",
    **others: object,
) -> Preview:
    check_commit("cifar10", revision)
    count = min(_NUM_TRAIN, train_limit or _NUM_TRAIN) if unreadable == "stop" else None
    return Preview(_TASK, count)


@datasets.register("cifar10")
@previewed_by(_preview)
def cifar10(
    *,
    path: ExistingFolder | None = None,
    name: str = "uoft-cs/cifar10",
    revision: str = _REVISION,
    sha256: str | None = None,
    train_limit: PositiveInt | None = None,
    test_limit: PositiveInt | None = None,
    unreadable: Literal["stop", "skip"] = "stop",
) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32 x 32 RGB, ten classes.

    Args:
        path: Folder of Parquet files ``train*.parquet`` and ``test*.parquet`` with the columns
            ``img`` (or ``image``; a struct with ``bytes``) and ``label``; then nothing is downloaded.
        name: Data set of the Hugging Face hub that is taken where there is no `path`. Its files must have the
            SHA-256 that the hub declares of them, and those of the default the ones that nasframe knows.
        revision: The commit of its repository, in 40 hexadecimal digits; another `name` needs one of its own.
        sha256: Checksum of what the hub gives, train before test: of each image's own SHA-256 (32 bytes), its
            label in digits and the end of a line. What has another is refused, with what it has; null asks
            for none beyond the checksums of the files.
        train_limit: Take at most so many training images, the first of a fixed permutation.
        test_limit: Take at most so many test images, likewise.
        unreadable: What happens with an image that cannot be decoded, or has a label of no class. `skip`
            leaves it out, and tells how many were left out in each split.

    Raises:
        DataError: The data is absent or not what it must be; the message says how to get it, or
            names file and row.
    """
    splits = _from_hub(name, revision, sha256) if path is None else _from_folder(path)
    skip = unreadable == "skip"
    train_images, train_labels = _decode(splits["train"], "train", train_limit, skip)
    return Dataset(
        TensorSplit(train_images, train_labels),
        TensorSplit(*_decode(splits["test"], "test", test_limit, skip)),
        _TASK,
        NormalizeImages.of(train_images),
        CLASS_NAMES,
        readers.component("image", height=_SIZE[0], width=_SIZE[1], channels=3),
    )


class _Example(NamedTuple):
    where: str
    image: Any
    label: Any


def _from_folder(folder: Path) -> dict[str, list[_Example]]:
    files = {split: sorted(folder.glob(f"{split}*.parquet")) for split in _SPLITS}
    if missing := [split for split in _SPLITS if not files[split]]:
        state = "has none" if folder.is_dir() else "is no folder"
        raise DataError(
            f"cifar10: {folder} must hold {missing[0]}*.parquet, but {state}; "
            "data.path is the folder of the Parquet files"
        )
    return {split: [example for file in files[split] for example in _read(file)] for split in _SPLITS}


def _from_hub(name: str, revision: str, sha256: str | None) -> dict[str, list[_Example]]:
    digests = _DIGESTS if revision == _REVISION else {}
    patterns = list(digests) or [f"{split}*.parquet" for split in _SPLITS]
    files = files_of("cifar10", name, revision, patterns, digests)
    if len({file.parent for file in files}) > 1:
        found = ", ".join(f"{file.parent.name}/{file.name}" for file in files)
        raise DataError(
            f"cifar10: `{name}` must have its Parquet files in one folder, got {found}; download those that "
            "are meant, and give data.path=FOLDER"
        )
    splits = {
        split: [example for file in files if file.name.startswith(split) for example in _read(file)]
        for split in _SPLITS
    }
    if sha256 is not None and (got := _checksum(splits)) != sha256:
        raise DataError(
            f"{name}: data.sha256 must be the checksum of what the hub gives, {sha256}, got {got}; it is not "
            "the data that was meant: correct data.revision, or data.sha256"
        )
    return splits


def _read(file: Path) -> Iterator[_Example]:
    import pyarrow
    from pyarrow import parquet

    try:
        if (rows := parquet.read_metadata(file).num_rows) > _MAX_ROWS:
            raise DataError(f"{file}: must have at most {_MAX_ROWS:,} rows, got {rows:,}; is it another's?")
        examples = list(_examples(parquet.read_table(file), str(file)))
    except (OSError, ValueError, LookupError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: must be a Parquet file: {error}; get it anew") from error
    yield from examples


def _checksum(splits: Mapping[str, Iterable[_Example]]) -> str:
    lines = hashlib.sha256()
    for example in itertools.chain(splits["train"], splits["test"]):
        lines.update(hashlib.sha256(_encoded(example)).digest() + f"{example.label}\n".encode())
    return lines.hexdigest()


def _examples(table: "pyarrow.Table", where: str) -> Iterator[_Example]:
    column = next((name for name in _IMAGE_COLUMNS if name in table.column_names), None)
    if column is None or "label" not in table.column_names:
        raise DataError(
            f"{where}: must have the columns `img` (or `image`) and `label`, got {table.column_names}"
        )
    pairs = zip(table.column(column).to_pylist(), table.column("label").to_pylist(), strict=True)
    for row, (image, label) in enumerate(pairs):
        yield _Example(f"{where}, row {row}", image, label)


def _decode(
    examples: list[_Example], split: str, limit: int | None, skip: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N C H W) and labels (int64, N) of the first `limit` of a fixed permutation."""
    if not examples:
        raise DataError(f"cifar10: the {split} split must have images, but is empty")
    order = torch.randperm(len(examples), generator=generator_for(0, "cifar10", split))[:limit]
    decoded, failures = [], []
    for index in order.tolist():
        try:
            decoded.append((_pixels(examples[index]), _label(examples[index])))
        except DataError as error:
            if not skip:
                raise
            failures.append(error)
    if failures:
        what = f"cifar10: {len(failures)} of {len(order)} {split} images"
        if not decoded:
            raise DataError(f"{what} must be usable, but none is, the first: {failures[0]}")
        warnings.warn(f"{what} are left out, the first: {failures[0]}", FaultWarning, stacklevel=3)
    images = torch.from_numpy(np.stack([pixels for pixels, _ in decoded]))
    return images.permute(0, 3, 1, 2).contiguous(), torch.tensor([label for _, label in decoded])


def _pixels(example: _Example) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    from PIL import Image

    encoded = _encoded(example)
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            mode, size = image.mode, image.size
            pixels = np.asarray(image) if size == _SIZE else None  # another may be too large to decode
    except Exception as error:  # a broken file may raise almost anything
        raise DataError(f"{example.where}: the image cannot be decoded: {error}") from error
    if mode != "RGB" or pixels is None:
        raise DataError(f"{example.where}: the image must be 32 x 32 RGB, got {size[0]} x {size[1]} {mode}")
    return pixels


def _encoded(example: _Example) -> bytes:
    encoded = example.image.get("bytes") if isinstance(example.image, dict) else None
    if not isinstance(encoded, bytes):
        raise DataError(
            f"{example.where}: the image must be a struct with `bytes`, got {example.image!r:.80}"
        )
    return encoded


def _label(example: _Example) -> int:
    label = example.label
    if not isinstance(label, int) or not 0 <= label < len(CLASS_NAMES):
        raise DataError(f"{example.where}: the label must be from 0 to {len(CLASS_NAMES) - 1}, got {label!r}")
    return label
