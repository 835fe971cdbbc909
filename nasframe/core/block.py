"""Blocks: parts of a network that may be computed again in the backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any, final

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nasframe.core.batch import map_tensors


class Block(nn.Module, ABC):
    """A part of a network whose activations may be computed again instead of kept (see `recompute`).

    Both passes are one to whoever looks: the second has the same random numbers, parameters and buffers,
    and moves neither. It moves what else a module counts, so let that be a buffer.

    Attributes:
        recomputed: Whether only its inputs and outputs are kept for the backward pass.
    """

    recomputed: bool = False

    @abstractmethod
    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """What ``forward`` returns."""

    def calls(self) -> Iterable[nn.Module]:
        """Modules that `compute` calls, and that are not below this one."""
        return ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `compute` makes of nests of tensors."""
        if not self.recomputed or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.compute(*args, **kwargs)
        tensors: list[torch.Tensor] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            tensors.append(tensor)
            return tensor

        nest = map_tensors(note, (args, kwargs))  # its lists are new: nobody adds to them afterwards

        def compute(*tensors: torch.Tensor) -> Any:
            left = iter(tensors)
            args, kwargs = map_tensors(lambda _: next(left), nest)
            return self.compute(*args, **kwargs)

        as_now = _AsNow(self._involved())
        return checkpoint(compute, *tensors, use_reentrant=False, context_fn=lambda: (nullcontext(), as_now))

    def _involved(self) -> Iterator[nn.Module]:
        """This module, those below it, and those that it calls."""
        for module in self.modules():
            yield module
            if isinstance(module, Block):
                for called in module.calls():
                    yield from called.modules()


def recompute(network: nn.Module) -> int:
    """Let each `Block` that lies in no other one be computed again in the backward pass.

    Returns:
        How many there are.
    """
    if isinstance(network, Block):
        network.recomputed = True
        return 1
    return sum(recompute(child) for child in network.children())


@final
class _AsNow:
    """A context, entered as often as need be, in which modules have the parameters and buffers of now.

    What happens to buffers inside, happens to copies.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._tensors: dict[int, torch.Tensor] = {}
        self._places: list[tuple[dict[str, Any], str, int]] = []
        self._buffers: set[int] = set()
        for module in modules:
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        self._places.append((held, name, self._note(tensor, held is module._buffers)))
        self._others: list[torch.Tensor | None] = []

    def _note(self, tensor: torch.Tensor, is_buffer: bool) -> int:
        key = id(tensor)
        if key not in self._tensors:
            self._tensors[key] = tensor.clone() if is_buffer else tensor
            if is_buffer:
                self._buffers.add(key)
        return key

    def __enter__(self) -> None:
        copied = {key: self._tensors[key].clone() for key in self._buffers}
        self._others = [held[name] for held, name, _ in self._places]
        for held, name, key in self._places:
            held[name] = copied.get(key, self._tensors[key])

    def __exit__(self, *exception: object) -> None:
        for (held, name, _), other in zip(self._places, self._others, strict=True):
            held[name] = other
