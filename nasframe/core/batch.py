"""Batch: the examples of one step."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Batch:
    """Inputs and targets, each a tensor or a nest (tuple, list, dict) of tensors; B comes first."""

    inputs: Any
    targets: Any

    def __len__(self) -> int:
        return int(first_tensor(self.targets).shape[0])

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in memory of the host that a GPU copies from while others compute."""
        return self._map(lambda tensor: tensor.pin_memory())

    def chunk(self, count: int) -> list["Batch"]:
        """At most `count` pieces of nearly equal size, none empty, that together are the batch."""
        size, count = len(self), min(count, len(self))
        bounds = [size * index // count for index in range(count + 1)]
        return [self._slice(start, stop) for start, stop in itertools.pairwise(bounds)]

    def _slice(self, start: int, stop: int) -> "Batch":
        return self._map(lambda tensor: tensor[start:stop])

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        return Batch(map_tensors(change, self.inputs), map_tensors(change, self.targets))


def map_tensors(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Apply `change` to each tensor of a nest; everything else stays as it is."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(change, item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(change, item) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(change, item) for key, item in value.items()}
    return value


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors of a nest, in order."""
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, value)
    return found


def first_tensor(value: Any) -> torch.Tensor:
    """The first tensor of a nest."""
    if isinstance(value, torch.Tensor):
        return value
    items = value.values() if isinstance(value, dict) else value
    return first_tensor(next(iter(items)))
