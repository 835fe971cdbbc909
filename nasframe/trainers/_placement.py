"""Where examples are, and how batches get to the device and lie there."""

from dataclasses import dataclass
from typing import Literal, final

import torch

from nasframe.core import Batch, BatchStream, Job, Model, Split
from nasframe.core.dataset import ResidentSplit, is_in_memory, size_in_bytes
from nasframe.core.memory import fits
from nasframe.core.ranks import num_ranks, rank
from nasframe.errors import DataError


@final
@dataclass(frozen=True)
class Placement:
    """How the examples of a stage get to its device.

    Attributes:
        batch_size: Examples of a step, of all ranks.
        resident: Whether the device holds all of them.
        channels_last: Whether images and convolution weights lie in that format.
        skips_unreadable: Whether an example that cannot be read is left out of its batch.
    """

    batch_size: int
    resident: Literal["auto", "always", "never"]
    channels_last: bool
    skips_unreadable: bool

    def stream(self, job: Job, name: str, split: Split) -> BatchStream:
        """This rank's share of the batches of a training.

        Args:
            job: What is trained.
            name: ``train`` or ``valid``.
            split: Their examples.

        Raises:
            DataError: They are too few for the ranks.
        """
        if len(split) < self.batch_size and len(split) % num_ranks():
            raise DataError(
                f"{job.stage}: {name} examples must be a multiple of the {num_ranks()} ranks where they are "
                f"fewer than batch_size, got {len(split)}; set batch_size to less"
            )
        return BatchStream(
            self._placed(job, name, split),
            job.preprocess,
            batch_size=self.batch_size,
            device=job.device,
            training=True,
            augment=job.augment if name == "train" else (),
            seed=job.seed,
            purpose=(job.stage, name),
            part=(rank(), num_ranks()),
            skip_unreadable=self.skips_unreadable,
            num_classes=job.num_outputs,
        )

    def _placed(self, job: Job, name: str, split: Split) -> Split:
        """The split itself, or what is held of it by the device."""
        if self.resident == "never":
            return split
        if self.resident == "auto" and not (
            not self.skips_unreadable and is_in_memory(split) and fits(size_in_bytes(split), job.device)
        ):
            return split
        job.note(f"{job.stage}: all {len(split)} {name} examples were held by {job.device}")
        return ResidentSplit(split, job.device)

    def place(self, model: Model, device: torch.device) -> Model:
        """Move a model to where it is trained; it is changed in place."""
        model.to(device)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def laid_out(self, batch: Batch) -> Batch:
        """A batch in the memory format that the network wants."""
        if self.channels_last and isinstance(batch.inputs, torch.Tensor) and batch.inputs.dim() == 4:
            return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
        return batch
