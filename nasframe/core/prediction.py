"""Predictions: a trained network with all that it takes to ask it about files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, final

import torch

from nasframe.core.dataset import Preprocess, TargetScale
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.reader import Reader
from nasframe.core.task import Task
from nasframe.errors import DataError, UnsupportedError
from nasframe.registry import Component
from nasframe.suggestion import meant_path

_BATCH: Final = 64


@final
@dataclass(frozen=True)
class Prediction:
    """What a network takes a file for.

    Attributes:
        file: As it was given.
        place: Where in the file, such as ``line 3``; empty where the file is one input.
        classes: The likeliest classes by name, each with its probability, the likeliest first; none where
            outputs are not of classes.
        numbers: What is predicted instead, by name, as the data have it; none where outputs are of classes.
    """

    file: Path
    classes: tuple[tuple[str, float], ...]
    place: str = ""
    numbers: tuple[tuple[str, float], ...] = ()


@final
@dataclass(frozen=True)
class Predictor:
    """A trained network with its own reading and preprocessing.

    Attributes:
        network: In evaluation mode; takes normalized inputs.
        task: Shapes of its inputs and outputs.
        preprocess: From raw inputs to network inputs.
        objective: Says what outputs mean.
        class_names: Names of the outputs, where they are classes that have some.
        reader: How a file becomes a raw input; None where no file does.
        target_scale: What outputs are called and how they become the numbers that the data have, where they
            are numbers.
    """

    network: Model
    task: Task
    preprocess: Preprocess
    objective: Objective
    class_names: tuple[str, ...] = ()
    reader: Component[Reader] | None = None
    target_scale: TargetScale = TargetScale()

    @torch.no_grad()
    def outputs(self, inputs: Any) -> Any:
        """What the network returns for a batch of raw inputs, such as uint8 images B C H W."""
        return self.network(self.preprocess.normalize(self.preprocess.scale(inputs)))

    def probabilities(self, inputs: Any) -> torch.Tensor:
        """The probability of each class, B K, for a batch of raw inputs.

        Raises:
            UnsupportedError: The outputs are not of classes.
        """
        found = self.objective.probabilities(self.outputs(inputs))
        if found is None:
            raise UnsupportedError(
                f"predict: outputs must be of classes, but the objective {type(self.objective).__name__} has "
                "no probabilities; call `numbers` or `outputs` in Python"
            )
        return found

    def numbers(self, inputs: Any) -> torch.Tensor:
        """The numbers that are predicted, B K in float64 as the data have them, for a batch of raw inputs.

        Raises:
            UnsupportedError: The outputs are no such numbers.
        """
        found = self.objective.numbers(self.outputs(inputs))
        if found is None:
            raise UnsupportedError(
                f"predict: outputs must be numbers, but the objective {type(self.objective).__name__} has "
                "none; call `probabilities` or `outputs` in Python"
            )
        return self.target_scale.restore(found)

    def predict(
        self,
        files: Iterable[str | Path],
        *,
        top: int = 3,
        unreadable: Callable[[DataError], None] | None = None,
    ) -> list[Prediction]:
        """Ask about files.

        Args:
            files: Each is one input, or several, such as the rows of a table. Of a folder all files below it
                are taken whose names end as the reader says, in the order of their paths, without those that
                are hidden.
            top: How many classes are told of each, at most.
            unreadable: Told of each file that cannot be read, which is then passed over; without it such a
                file ends the prediction.

        Raises:
            DataError: A file cannot be read.
            UnsupportedError: No file is an input of this network, or its outputs are neither of classes nor
                numbers.
        """
        read = self.read(files, unreadable)
        found: list[Prediction] = []
        while some := list(islice(read, _BATCH)):
            outputs = self.outputs(torch.stack([raw for *_, raw in some]))
            places = [(file, place) for file, place, _ in some]
            if (shares_BK := self.objective.probabilities(outputs)) is not None:
                found += [
                    Prediction(file, self._likeliest(shares_K, top), place)
                    for (file, place), shares_K in zip(places, shares_BK, strict=True)
                ]
            elif (numbers_BK := self.objective.numbers(outputs)) is not None:
                found += [
                    Prediction(file, (), place, self._named(numbers_K.tolist()))
                    for (file, place), numbers_K in zip(
                        places, self.target_scale.restore(numbers_BK), strict=True
                    )
                ]
            else:
                raise UnsupportedError(
                    "predict: outputs must be of classes, or numbers, but the objective "
                    f"{type(self.objective).__name__} says of neither; call `outputs` in Python"
                )
        return found

    def read(
        self, files: Iterable[str | Path], unreadable: Callable[[DataError], None] | None = None
    ) -> Iterator[tuple[Path, str, torch.Tensor]]:
        """Raw inputs, each with its file and its place there; see `predict`."""
        if self.reader is None:
            raise UnsupportedError(
                "predict: the data set of this network must say how a file becomes an input, but does not; "
                "call `probabilities` in Python with a batch of raw inputs"
            )
        return _readable(self.reader(), map(Path, files), unreadable)

    def _named(self, numbers: Sequence[float]) -> tuple[tuple[str, float], ...]:
        names = self.target_scale.names or tuple(map(str, range(len(numbers))))
        return tuple(zip(names, numbers, strict=True))

    def _likeliest(self, shares_K: torch.Tensor, top: int) -> tuple[tuple[str, float], ...]:
        names: Sequence[str] = self.class_names or [str(index) for index in range(len(shares_K))]
        values, indices = shares_K.topk(min(top, len(shares_K)))
        return tuple(
            (names[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        )


def _readable(
    reader: Reader, paths: Iterable[Path], unreadable: Callable[[DataError], None] | None
) -> Iterator[tuple[Path, str, torch.Tensor]]:
    """The files that can be read, with each place in them and what is read there."""
    for path in paths:
        try:
            files = _files(path, reader.suffixes)
        except DataError as error:
            _tell(error, unreadable)
            continue
        for file in files:
            try:
                yield from [(file, place, raw) for place, raw in reader.inputs(file)]
            except DataError as error:
                _tell(error, unreadable)


def _tell(error: DataError, unreadable: Callable[[DataError], None] | None) -> None:
    if unreadable is None:
        raise error
    unreadable(error)


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file itself, or those of a folder."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        meant = f"; {question}" if (question := meant_path(path)) else ""
        raise DataError(f"{path}: must be a file or a folder, but there is none{meant}")
    below = (each for each in path.rglob("*") if each.suffix.lower() in suffixes and each.is_file())
    found = [each for each in below if not any(part.startswith(".") for part in each.relative_to(path).parts)]
    if not found:
        ends = ", ".join(suffixes) or "what its reader says, which is nothing"
        raise DataError(f"{path}: must hold files whose names end in {ends}, but has none")
    return sorted(found)
