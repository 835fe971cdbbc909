"""The 2D sets of MedMNIST, from a local file."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.lib import format as npy

from nasframe.core import (
    Dataset,
    NormalizeImages,
    Preview,
    Task,
    TensorSplit,
    datasets,
    previewed_by,
    readers,
)
from nasframe.errors import DataError
from nasframe.types import ExistingFile

_SPLITS: Final = ("train", "val", "test")
_KEYS: Final = tuple(f"{split}_{what}" for split in _SPLITS for what in ("images", "labels"))
_GET_IT: Final = "get the file of a 2D set anew from https://medmnist.com"


def _preview(*, path: Path, join_val: bool) -> Preview | None:
    if not path.is_file():
        return None
    with _opened(path) as file:
        labels, task = _described(path, file)
    return Preview(task, sum(len(labels[split]) for split in _for_training(join_val)))


@datasets.register("medmnist")
@previewed_by(_preview)
def medmnist(*, path: ExistingFile, join_val: bool = True) -> Dataset:
    """A 2D, single-label set of MedMNIST (Yang et al. 2023), gray or RGB, of any size.

    Nothing is downloaded: get the file, such as ``pathmnist.npz`` or ``bloodmnist_64.npz``, from
    https://medmnist.com. There are as many classes as the largest label says.

    Args:
        path: The ``.npz`` file, with the arrays ``train_images``, ``train_labels`` and the same of
            ``val`` and ``test``.
        join_val: Whether the set's own validation images are for training too, since a recipe holds out
            its validation from the training images; otherwise they are left out.

    Raises:
        DataError: The file is not what it must be; the message says which array, and what to do.
    """
    with _opened(path) as file:
        labels, task = _described(path, file)
        images = {split: _images(file, split) for split in {*_for_training(join_val), "test"}}
    used = _for_training(join_val)
    train_images = torch.cat([images[split] for split in used])
    channels, height, width = task.input_shape
    return Dataset(
        TensorSplit(train_images, torch.cat([labels[split] for split in used])),
        TensorSplit(images["test"], labels["test"]),
        task,
        NormalizeImages.of(train_images),
        tuple(map(str, range(task.num_outputs))),
        readers.component("image", channels=channels, height=height, width=width),
    )


def _for_training(join_val: bool) -> tuple[str, ...]:
    return ("train", "val") if join_val else ("train",)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive that an .npz file is."""
    try:
        with zipfile.ZipFile(path) as file:
            held = set(file.namelist())
            if missing := [key for key in _KEYS if f"{key}.npy" not in held]:
                raise DataError(
                    f"{path}: must hold the arrays {', '.join(_KEYS)}, but lacks {missing}; {_GET_IT}"
                )
            yield file
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: must be an .npz file that can be read: {error}; {_GET_IT}") from error


def _described(path: Path, file: zipfile.ZipFile) -> tuple[dict[str, torch.Tensor], Task]:
    """The labels of each split, and the task; of the images the headers alone are read."""
    labels, shapes = {}, {}
    for split in _SPLITS:
        labels[split] = _labels(path, file, split)
        count, *shape = _header(path, file, split)
        shapes[split] = tuple(shape)
        if count != len(labels[split]) or not count:
            raise DataError(
                f"{path}: {split} must have images with one label each, got {count} images and "
                f"{len(labels[split])} labels; {_GET_IT}"
            )
    if len(set(shapes.values())) > 1:
        raise DataError(f"{path}: images of all splits must have one shape, got {shapes}; {_GET_IT}")
    height, width, *colors = shapes["train"]
    num_classes = 1 + int(max(each.max() for each in labels.values()))
    return labels, Task((*(colors or (1,)), height, width), num_classes)


def _labels(path: Path, file: zipfile.ZipFile, split: str) -> torch.Tensor:
    """Classes from 0, int64, of shape N."""
    where = f"{path}: {split}_labels"
    with file.open(f"{split}_labels.npy") as stream:
        labels = npy.read_array(stream, allow_pickle=False)
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] != 1):
        raise DataError(
            f"{where}: must be one class an image, of shape N or N x 1, got shape {labels.shape}; "
            "sets with several labels an image (ChestMNIST) are not for this plugin, choose another"
        )
    if labels.dtype.kind not in "ui" or (labels.size and labels.min() < 0):
        raise DataError(f"{where}: classes must be whole numbers from 0, got {labels.dtype}; {_GET_IT}")
    return torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _header(path: Path, file: zipfile.ZipFile, split: str) -> tuple[int, ...]:
    """The shape of a split's images: N H W, or N H W 3."""
    with file.open(f"{split}_images.npy") as stream:
        first = npy.read_magic(stream) == (1, 0)
        shape, _, dtype = (npy.read_array_header_1_0 if first else npy.read_array_header_2_0)(stream)
    if dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
        raise DataError(
            f"{path}: {split}_images: must be uint8 of shape N x H x W or N x H x W x 3, got {dtype} of "
            f"shape {shape}; 3D sets are not for this plugin, choose a 2D one"
        )
    return tuple(shape)


def _images(file: zipfile.ZipFile, split: str) -> torch.Tensor:
    """Raw images, uint8, N C H W."""
    with file.open(f"{split}_images.npy") as stream:
        images = torch.from_numpy(npy.read_array(stream, allow_pickle=False))
    return (images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)).contiguous()
