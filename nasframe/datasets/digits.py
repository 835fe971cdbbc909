"""Handwritten digits that come with scikit-learn: real data without a download."""

from importlib.util import find_spec
from pathlib import Path

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
from nasframe.errors import DataError
from nasframe.types import ProperFraction

_NUM_IMAGES = 1797


def _num_test(test_fraction: float) -> int:
    count = round(_NUM_IMAGES * test_fraction)
    if not 0 < count < _NUM_IMAGES:
        raise DataError(
            f"digits: test_fraction must leave images on both sides, got {test_fraction} of {_NUM_IMAGES}"
        )
    return count


def _preview(*, test_fraction: float) -> Preview:
    return Preview(Task((1, 8, 8), 10), _NUM_IMAGES - _num_test(test_fraction))


@datasets.register("digits")
@previewed_by(_preview)
def digits(*, test_fraction: ProperFraction = 0.2) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn: 8 x 8 pixels, gray, ten classes.

    Which images are for testing depends on `test_fraction` alone, never on a run's seed. The 17 gray
    levels 0 to 16 become 0 to 255, each another one, so that digits are light on dark.

    Args:
        test_fraction: Share of the images that are for testing; must leave some on both sides.

    Raises:
        DataError: One side would be empty, or scikit-learn lacks the file.
    """
    rows = torch.from_numpy(_rows())
    images = (rows[:, :64] * 255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = rows[:, 64].long()
    num_test = _num_test(test_fraction)
    order = torch.randperm(len(labels), generator=generator_for(0, "digits", "test"))
    test, train = order[:num_test], order[num_test:]
    return Dataset(
        TensorSplit(images[train], labels[train]),
        TensorSplit(images[test], labels[test]),
        Task((1, 8, 8), 10),
        NormalizeImages.of(images[train]),
        tuple(map(str, range(10))),
        readers.component("image", height=8, width=8, channels=1),
    )


def _rows() -> np.ndarray:
    """64 gray levels and the digit of each image; scikit-learn itself takes over a second to import."""
    found = find_spec("sklearn")
    folder = Path("sklearn") if found is None or found.origin is None else Path(found.origin).parent
    path = folder / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"digits: must be at {path}, but there is no such file; install scikit-learn anew")
    rows: np.ndarray = np.loadtxt(path, delimiter=",", dtype=np.float64)
    return rows
