"""Where examples are, and how batches get to the device and lie there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import torch
from torch import nn

from nasframe.core import ActiveSetting, Batch, BatchStream, Job, Model, Split
from nasframe.core.dataset import ResidentSplit, is_in_memory, size_in_bytes
from nasframe.core.memory import fits
from nasframe.core.ranks import num_ranks, rank
from nasframe.errors import DataError

Choice: TypeAlias = Literal["auto", "always", "never"]

_LEAST_SIDE: Final = 32
"""Pixels of images from which on channels_last was not slower on a CPU in any network that was measured."""


@final
@dataclass(frozen=True)
class Placement:
    """How the examples of a stage get to its device.

    Attributes:
        batch_size: Examples of a step, of all ranks.
        resident: Whether the device holds all of them.
        prefetch: Whether batches are read ahead.
        channels_last: Whether images and convolution weights lie in that format.
        skips_unreadable: Whether an example that cannot be read is left out of its batch.
    """

    batch_size: int
    resident: Choice
    prefetch: Choice
    channels_last: bool | Literal["auto"]
    skips_unreadable: bool

    def streams(self, job: Job, splits: dict[str, Split]) -> tuple[list[BatchStream], list[ActiveSetting]]:
        """This rank's shares of the batches of a training, and how they get to the device.

        Args:
            job: What is trained.
            splits: Their examples, by ``train`` and ``valid``.

        Raises:
            DataError: They are too few for the ranks.
        """
        for name, split in splits.items():
            if len(split) < self.batch_size and len(split) % num_ranks():
                raise DataError(
                    f"{job.stage}: {name} examples must be a multiple of the {num_ranks()} ranks where they "
                    f"are fewer than batch_size, got {len(split)}; set batch_size to less"
                )
        reasons = {name: self._resides(split, job.device) for name, split in splits.items()}
        held = [name for name, (is_held, _) in reasons.items() if is_held]
        reason = "; ".join(dict.fromkeys(reason for _, reason in reasons.values()))
        ahead = self.is_read_ahead(job.device, everything=len(held) == len(splits))
        streams = [
            BatchStream(
                ResidentSplit(split, job.device) if name in held else split,
                job.preprocess,
                batch_size=self.batch_size,
                device=job.device,
                training=True,
                augment=job.augment if name == "train" else (),
                seed=job.seed,
                purpose=(job.stage, name),
                part=(rank(), num_ranks()),
                skip_unreadable=self.skips_unreadable,
                ahead=ahead.value == "on" and name not in held,
                num_classes=job.num_outputs,
            )
            for name, split in splits.items()
        ]
        for name in held:
            job.note(f"{job.stage}: all {len(splits[name])} {name} examples were held by {job.device}")
        return streams, [ActiveSetting("resident", " and ".join(held) or "off", reason), ahead]

    def _resides(self, split: Split, device: torch.device) -> tuple[bool, str]:
        """Whether the device holds a split, and why."""
        if self.resident != "auto":
            return self.resident == "always", "as the recipe says"
        if device.type != "cuda":
            return False, _whose(device)
        if self.skips_unreadable or not is_in_memory(split):
            return False, "examples are read as they come"
        size = size_in_bytes(split) / 2**20
        if fits(size_in_bytes(split), device):
            return True, f"{size:,.0f} MiB, at most a quarter of the memory that is free"
        return False, f"{size:,.0f} MiB would be more than a quarter of the memory that is free"

    def is_read_ahead(self, device: torch.device, *, everything: bool) -> ActiveSetting:
        """Whether batches are read ahead, where `everything` is held by the device or not."""
        if everything:
            return ActiveSetting("prefetch", "off", "the device holds all examples")
        if self.prefetch != "auto":
            return ActiveSetting(
                "prefetch", "on" if self.prefetch == "always" else "off", "as the recipe says"
            )
        if device.type == "cuda":
            return ActiveSetting("prefetch", "on", "the host reads the next batch while the device computes")
        return ActiveSetting("prefetch", "off", _whose(device))

    def lay_out(self, model: Model, job: Job) -> ActiveSetting:
        """Give the weights of a model, in place, the memory format of the training."""
        wanted, reason = self._wants_channels_last(model, job)
        if wanted:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return ActiveSetting("channels_last", "on" if wanted else "off", reason)

    def _wants_channels_last(self, model: Model, job: Job) -> tuple[bool, str]:
        if self.channels_last != "auto":
            return self.channels_last, "as the recipe says"
        side = _side_of_images(job.train)
        if side is None or not any(isinstance(module, nn.Conv2d) for module in model.modules()):
            return False, "there are no convolutions of images"
        if job.device.type == "cpu" and side >= _LEAST_SIDE:
            return True, f"on a CPU, images of {_LEAST_SIDE} pixels and more are faster so"
        if job.device.type == "cpu":
            return False, f"on a CPU, some networks are slower so below {_LEAST_SIDE} pixels"
        if job.device.type == "cuda" and model.precision == "bfloat16":
            return True, "the units for bfloat16 take this format"
        return False, f"what it brings in {model.precision} on {job.device.type} was never measured"

    def layout_of(self, model: Model) -> Callable[[Batch], Batch]:
        """What gives batches the memory format that a model wants."""
        wanted = self.channels_last
        return _in_channels_last if wanted is True or (wanted and _is_channels_last(model)) else _as_it_is


def _whose(device: torch.device) -> str:
    return "the device is the host" if device.type == "cpu" else f"{device.type} shares the host's memory"


def _side_of_images(split: Split) -> int | None:
    """The shorter side of the first image in pixels; None where there is none, or it cannot be read."""
    try:
        inputs = split.batch(torch.arange(1)).inputs
    except (DataError, OSError, ValueError, EOFError):
        return None  # which is told when its batch comes
    return min(inputs.shape[2:]) if isinstance(inputs, torch.Tensor) and inputs.dim() == 4 else None


def _is_channels_last(model: Model) -> bool:
    """Whether convolution weights lie so, and not in both formats at once."""
    return any(
        not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
        for weight in model.parameters()
        if weight.dim() == 4
    )


def _in_channels_last(batch: Batch) -> Batch:
    if isinstance(batch.inputs, torch.Tensor) and batch.inputs.dim() == 4:
        return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
    return batch


def _as_it_is(batch: Batch) -> Batch:
    return batch
