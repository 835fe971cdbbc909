"""Batches of a split, epoch by epoch: shuffled, moved, preprocessed, augmented."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeAlias, final

import torch
from torch.nn import functional

from nasframe.core.augmentation import Augmentation
from nasframe.core.batch import Batch
from nasframe.core.dataset import Preprocess, Split, origin
from nasframe.core.random_state import generator_for, seed_for
from nasframe.errors import DataError, FaultWarning

_UNREADABLE: Final = (OSError, ValueError, EOFError)  # what a file raises that is absent, cut off or garbled

_Read: TypeAlias = tuple[Batch, Mapping[int, DataError]]
"""A batch, and by example why some are not in it."""


@final
class BatchStream:
    """The batches of a split; which batch comes where depends on (seed, purpose, epoch) alone.

    Args:
        split: The examples.
        preprocess: From raw inputs to network inputs.
        batch_size: Examples a batch.
        device: Where batches go.
        training: Shuffle, augment, and drop the last batch if it is not full (another remainder
            each epoch); otherwise keep the order, and every example.
        augment: Augmentations in order, for training only.
        seed: The run's seed.
        purpose: What the stream is for, such as ``("search", "train")``.
        part: Which of how many equal parts of each batch this is, as ranks share it. Parts draw their
            augmentations apart. One that is empty is left out.
        skip_unreadable: Leave examples that cannot be read out of their batch, which is then smaller; each
            is told once by a `FaultWarning`.
        ahead: Read each batch in a thread while the one before is used, for CUDA into pinned memory.
        num_classes: Into shares of how many classes labels are made, where an augmentation mixes targets.

    Attributes:
        batch_size: Examples of a batch that is full, of all parts.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        *,
        batch_size: int,
        device: torch.device,
        training: bool = False,
        augment: Sequence[Augmentation] = (),
        seed: int = 0,
        purpose: tuple[str, ...] = (),
        part: tuple[int, int] = (0, 1),
        skip_unreadable: bool = False,
        ahead: bool = False,
        num_classes: int | None = None,
    ) -> None:
        self._split, self._preprocess, self._device = split, preprocess, device
        self.batch_size = min(batch_size, len(split))
        self._training, self._augment = training, tuple(augment) if training else ()
        self._seed, self._purpose, self._part = seed, purpose, part
        self._skip_unreadable, self._ahead = skip_unreadable, ahead
        mixes = any(augmentation.mixes_targets for augmentation in self._augment)
        self._num_classes = num_classes if mixes else None
        self._told: set[int] = set()
        self._generator = torch.Generator(device)

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(len(self._split), self.batch_size)
        return full + (rest > 0 and not self._training)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on."""
        order, size = self._order(epoch), self.batch_size
        number, count = self._part
        own = () if count == 1 else (number,)
        places = {}
        for index in range(start, len(self)):
            chosen = order[index * size : (index + 1) * size]
            chosen = chosen[len(chosen) * number // count : len(chosen) * (number + 1) // count]
            if len(chosen):
                places[index] = chosen
        read = self._read_ahead if self._ahead else self._read_in_turn
        for index, (batch, failures) in zip(places, read(places.values()), strict=True):
            self._tell(failures)
            batch = batch.to(self._device)
            self._generator.manual_seed(seed_for(self._seed, *self._purpose, "augment", epoch, index, *own))
            yield self._prepare(batch)

    def forever(self, start: int = 0) -> Iterator[Batch]:
        """Epoch after epoch, from the `start`-th batch of all on."""
        epoch, index = divmod(start, len(self))
        while True:
            yield from self.epoch(epoch, index)
            epoch, index = epoch + 1, 0

    def examples(self, epoch: int, index: int) -> list[int]:
        """Which examples a batch has, as they are counted in the data set."""
        chosen = self._order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        return origin(self._split, chosen).tolist()

    def _order(self, epoch: int) -> torch.Tensor:
        order = torch.arange(len(self._split))
        if self._training:
            order = torch.randperm(
                len(order), generator=generator_for(self._seed, *self._purpose, "order", epoch)
            )
        return order

    def _read_in_turn(self, places: Iterable[torch.Tensor]) -> Iterator[_Read]:
        return map(self._read, places)

    def _read_ahead(self, places: Iterable[torch.Tensor]) -> Iterator[_Read]:
        """The same batches; each is read by a thread while the one before is used."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            coming: Future[_Read] | None = None
            for chosen in places:
                ready, coming = coming, thread.submit(self._read_pinned, chosen)
                if ready is not None:
                    yield ready.result()
            if coming is not None:
                yield coming.result()

    def _read_pinned(self, indices: torch.Tensor) -> _Read:
        batch, failures = self._read(indices)
        return (batch.pinned() if self._device.type == "cuda" else batch), failures

    def _read(self, indices: torch.Tensor) -> _Read:
        """A batch of the split; an example that cannot be read is named, or left out."""
        try:
            return self._split.batch(indices), {}
        except (*_UNREADABLE, DataError) as error:
            failures = {}
            for index, each in enumerate(indices.unsqueeze(1)):
                if (failure := self._failure_of(each)) is not None:
                    failures[index] = failure
                    if not self._skip_unreadable or len(failures) == len(indices):
                        raise failure from error
            if not failures:
                raise DataError(f"data: a batch must be readable, but {error}") from error
        readable = [index for index in range(len(indices)) if index not in failures]
        left_out = {int(origin(self._split, indices[index])): each for index, each in failures.items()}
        return self._split.batch(indices[readable]), left_out

    def _failure_of(self, index: torch.Tensor) -> DataError | None:
        """Why an example (its index, of shape 1) cannot be read; None if it can."""
        try:
            self._split.batch(index)
        except DataError as error:
            return error
        except _UNREADABLE as error:
            where = int(origin(self._split, index))
            return DataError(f"data: example {where} must be readable, but {error}; restore or remove it")
        return None

    def _tell(self, failures: Mapping[int, DataError]) -> None:
        for example, failure in failures.items():
            if example not in self._told:
                self._told.add(example)
                warnings.warn(f"{failure}; it is left out", FaultWarning, stacklevel=3)

    def _prepare(self, batch: Batch) -> Batch:
        batch = Batch(self._preprocess.scale(batch.inputs), self._shares(batch.targets))
        batch = self._apply(batch, after_normalization=False)
        batch = Batch(self._preprocess.normalize(batch.inputs), batch.targets)
        return self._apply(batch, after_normalization=True)

    def _shares(self, targets: Any) -> Any:
        """Class labels as shares of the classes, where these may be mixed; other targets as they are."""
        is_label = isinstance(targets, torch.Tensor) and targets.dtype == torch.int64 and targets.dim() == 1
        if self._num_classes is None or not is_label:
            return targets
        return functional.one_hot(targets, self._num_classes).to(torch.get_default_dtype())

    def _apply(self, batch: Batch, *, after_normalization: bool) -> Batch:
        for augmentation in self._augment:
            if augmentation.after_normalization is after_normalization:
                batch = augmentation(batch, self._generator)
        return batch
