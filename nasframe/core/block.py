"""Blocks: parts of a network that may be computed again in the backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from nasframe.core.again import Again


class Block(nn.Module, ABC):
    """A part of a network whose activations may be computed again instead of kept (see `recompute`).

    Both passes are one to whoever looks: the second has the same random numbers, parameters and buffers,
    and moves neither. It moves what else a module counts, so let that be a buffer.

    Attributes:
        recomputed: Whether its activations are computed again, unless it costs no memory to keep them.
    """

    recomputed: bool = False
    _place: "_Place | None" = None

    @abstractmethod
    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """What ``forward`` returns."""

    def calls(self) -> Iterable[nn.Module]:
        """Modules that `compute` calls, and that are not below this one."""
        return ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `compute` makes of nests of tensors."""
        place = self._place or _Place([0], 0)
        is_kept = not self.recomputed or place.is_kept()
        if is_kept or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.compute(*args, **kwargs)
        return Again(_involved(self), self.compute, args, kwargs, place.note).first()


def recompute(network: nn.Module) -> int:
    """Let each `Block` that lies in no other one be computed again in the backward pass.

    The last of them are kept, as soon as it is known how many take no more memory together than one of those
    before them: a backward pass is done with them before it comes to that one.

    Returns:
        How many there are.
    """
    blocks = list(_outermost(network))
    num_bytes = [0] * len(blocks)
    for index, block in enumerate(blocks):
        block.recomputed, block._place = True, _Place(num_bytes, index)
    return len(blocks)


@final
@dataclass(frozen=True)
class _Place:
    """Where a block stands among those that run one after the other.

    Attributes:
        num_bytes: What each of them has computed again at most, as far as is known.
        index: Of the block.
    """

    num_bytes: list[int]
    index: int

    def note(self, num_bytes: int) -> None:
        """What the block has computed again; less another time, if other candidates are drawn."""
        self.num_bytes[self.index] = max(self.num_bytes[self.index], num_bytes)

    def is_kept(self) -> bool:
        """Whether it and those behind it take no more than the largest one before it."""
        before, own = self.num_bytes[: self.index], self.num_bytes[self.index :]
        return own[0] > 0 and sum(own) <= max(before, default=0)


def _outermost(module: nn.Module) -> Iterator[Block]:
    if isinstance(module, Block):
        yield module
    else:
        for child in module.children():
            yield from _outermost(child)


def _involved(module: nn.Module) -> Iterator[nn.Module]:
    """A module, those below it, and those that they call; faster than ``modules()``, some come twice."""
    yield module
    below = module._modules.values()
    for each in (*below, *module.calls()) if isinstance(module, Block) else below:
        if each is not None:
            yield from _involved(each)
