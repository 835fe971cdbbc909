"""Batches of a split, epoch by epoch: shuffled, moved, preprocessed, augmented."""

from collections.abc import Iterator, Sequence
from typing import final

import torch

from nasframe.core.augmentation import Augmentation
from nasframe.core.batch import Batch
from nasframe.core.dataset import Preprocess, Split, origin
from nasframe.core.random_state import generator_for, seed_for
from nasframe.errors import DataError


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
    ) -> None:
        self._split, self._preprocess, self._device = split, preprocess, device
        self._batch_size = min(batch_size, len(split))
        self._training, self._augment = training, tuple(augment) if training else ()
        self._seed, self._purpose = seed, purpose
        self._generator = torch.Generator(device)

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(len(self._split), self._batch_size)
        return full + (rest > 0 and not self._training)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on."""
        order, size = self._order(epoch), self._batch_size
        for index in range(start, len(self)):
            batch = self._read(order[index * size : (index + 1) * size]).to(self._device)
            self._generator.manual_seed(seed_for(self._seed, *self._purpose, "augment", epoch, index))
            yield self._prepare(batch)

    def forever(self, start: int = 0) -> Iterator[Batch]:
        """Epoch after epoch, from the `start`-th batch of all on."""
        epoch, index = divmod(start, len(self))
        while True:
            yield from self.epoch(epoch, index)
            epoch, index = epoch + 1, 0

    def examples(self, epoch: int, index: int) -> list[int]:
        """Which examples a batch has, as they are counted in the data set."""
        chosen = self._order(epoch)[index * self._batch_size : (index + 1) * self._batch_size]
        return origin(self._split, chosen).tolist()

    def _order(self, epoch: int) -> torch.Tensor:
        order = torch.arange(len(self._split))
        if self._training:
            order = torch.randperm(
                len(order), generator=generator_for(self._seed, *self._purpose, "order", epoch)
            )
        return order

    def _read(self, indices: torch.Tensor) -> Batch:
        """A batch of the split; an example that cannot be read is named."""
        try:
            return self._split.batch(indices)
        except (OSError, ValueError, DataError) as error:
            for index in indices.unsqueeze(1):
                try:
                    self._split.batch(index)
                except DataError:
                    raise
                except (OSError, ValueError) as of_one:
                    where = int(origin(self._split, index))
                    raise DataError(
                        f"data: example {where} must be readable, but {of_one}; restore or remove it"
                    ) from of_one
            raise DataError(f"data: a batch must be readable, but {error}") from error

    def _prepare(self, batch: Batch) -> Batch:
        batch = Batch(self._preprocess.scale(batch.inputs), batch.targets)
        batch = self._apply(batch, after_normalization=False)
        batch = Batch(self._preprocess.normalize(batch.inputs), batch.targets)
        return self._apply(batch, after_normalization=True)

    def _apply(self, batch: Batch, *, after_normalization: bool) -> Batch:
        for augmentation in self._augment:
            if augmentation.after_normalization is after_normalization:
                batch = augmentation(batch, self._generator)
        return batch
