"""What a network gets right and wrong of files that lie in the folders of their classes."""

from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from nasframe.core import Predictor
from nasframe.errors import DataError, UnsupportedError
from nasframe.recipe.confusion import Counted
from nasframe.recipe.evaluation import Evaluation, by_class

_BATCH: Final = 64


def evaluate_files(
    model: Predictor, folder: Path, unreadable: Callable[[DataError], None] | None = None
) -> Evaluation:
    """Evaluate a trained network on files of one's own, read and normalized as for its training.

    Args:
        model: What `nasframe.load` gives.
        folder: Has a folder for each class, or for some of them, by its name.
        unreadable: Told of each file that cannot be read, which is then passed over; without it such a file
            ends the evaluation.

    Returns:
        The figures, with an empty `split`.

    Raises:
        DataError: A folder is of no class, no file can be read, or one cannot.
        UnsupportedError: The network tells no classes apart, or no file is an input of it.
    """
    folders = _folders_of_classes(model, folder)
    read = ((raw, label) for label, below in folders.items() for *_, raw in model.read([below], unreadable))
    counted, num = Counted(model.objective, model.network), 0
    sums: dict[str, float] = defaultdict(float)
    while some := list(islice(read, _BATCH)):
        outputs = model.outputs(torch.stack([raw for raw, _ in some]))
        targets_B = torch.tensor([label for _, label in some])
        figures = {"loss": counted.loss(outputs, targets_B), **counted.metrics(outputs, targets_B)}
        for name, value in figures.items():
            sums[name] += float(value) * len(some)
        num += len(some)
    if not num:
        raise DataError(f"{folder}: must have a file that can be read, but has none")
    metrics = {name: total / num for name, total in sums.items()}
    return Evaluation("", num, metrics, *by_class(counted.take(), model.class_names))


def _folders_of_classes(model: Predictor, folder: Path) -> dict[int, Path]:
    """Each folder by the number of its class."""
    if not model.class_names:
        raise UnsupportedError(
            "evaluate: files can be judged where outputs are classes with names, but those of this network "
            "have none; evaluate its run by --split"
        )
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder with a folder of files for each class, but is none")
    found = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    number = {name: index for index, name in enumerate(model.class_names)}
    if not found or (unknown := [each.name for each in found if each.name not in number]):
        told = f"got {', '.join(unknown[:10])}" if found else "but has no folder"
        raise DataError(
            f"{folder}: must have folders that are called like classes of the network, such as "
            f"{', '.join(model.class_names[:3])}, {told}"
        )
    return {number[each.name]: each for each in found}
