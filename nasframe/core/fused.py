"""Nodes of a supernet whose mixtures are computed together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, TypeVar, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core.batch_norm import (
    ExactBatchNorm2d,
    Statistics,
    add_normalized,
    can_normalize,
    normalize,
    track,
)
from nasframe.core.block import Block
from nasframe.core.mixed_op import MixedLayer, MixedOp, WeightedSum, is_zero, total_of

Made = TypeVar("Made")

_POOLS: Final = (nn.MaxPool2d, nn.AvgPool2d)


@final
class States(list[torch.Tensor]):
    """The states of a cell in order, and what several of its nodes make of them alike."""

    def __init__(self, states: Iterable[torch.Tensor]) -> None:
        super().__init__(states)
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returns; it is called when the key is first asked for."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made


class InTwoSteps(ABC):
    """A layer whose first step has no parameters, so that layers that read one input can share it."""

    @abstractmethod
    def sharing_key(self) -> Hashable:
        """Layers of equal keys have the same first step."""

    @abstractmethod
    def first_step(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """What can be shared."""

    @abstractmethod
    def second_step(self, made: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The output, from the input and what the first step made of it."""


@final
class FusedSum(Block):
    """Adds up the mixtures of several states, as `SumOfInputs` of `MixedLayer` does, all in one go.

    In training on the CPU, what candidates of all edges have in common is computed once: the ReLU
    that a state goes through, poolings with their batch norms, the order that dilated convolutions
    read it in. Batch norms that end a candidate are folded into the weighted sum. Candidates that
    are built otherwise are computed as they are; in evaluation, under autocast, on other devices and
    while PyTorch compiles, all are.

    Args:
        branches: One for each state, such as `takes` says.
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def apart(self) -> list[tuple[MixedOp, int]]:
        """Mixed op and position of the candidates that are neither shared nor folded in any part."""
        sites = [branch for branch in self.branches if isinstance(branch, MixedLayer)]
        return [
            (site.mixed_op, position)
            for site in sites
            for position, candidate in enumerate(site.candidates)
            if not (is_zero(candidate) or type(candidate) is nn.Identity or _Chain.of(candidate))
        ]

    @staticmethod
    def takes(branches: Sequence[nn.Module]) -> bool:
        """Whether all branches are mixtures by weights."""
        return all(
            isinstance(each, MixedLayer) and isinstance(each.mixed_op, WeightedSum) for each in branches
        )

    def compute(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        used = states[: len(self.branches)]
        if not self.training or not all(map(can_normalize, used)):
            return total_of([branch(state) for branch, state in zip(self.branches, used, strict=True)])
        return self._together(states if isinstance(states, States) else States(states))

    def _together(self, states: States) -> torch.Tensor:
        total: torch.Tensor | None = None
        others: list[torch.Tensor] = []
        seen: list[Statistics] = []
        for index, branch in enumerate(self.branches):
            for weight, candidate in _mixture(branch):
                term, norm = _term(candidate, states, index, seen)
                if total is not None and term.shape != total.shape:
                    others.append(weight * (term if norm is None else norm(term)))
                elif norm is not None:
                    total, statistics = add_normalized(total, weight, term, norm)
                    seen.append(statistics)
                else:
                    total = weight * term if total is None else total.addcmul_(term, weight)
        track(seen)
        if total is None:
            return total_of([branch(state) for branch, state in zip(self.branches, states, strict=False)])
        return total_of([total, *others])


def _mixture(branch: nn.Module) -> Iterator[tuple[torch.Tensor, nn.Module]]:
    """The weight and candidate of each summand that is not zero."""
    assert isinstance(branch, MixedLayer)
    assert isinstance(branch.mixed_op, WeightedSum)
    mixture = branch.mixed_op.mixture().unbind()
    return (pair for pair in zip(mixture, branch.candidates, strict=True) if not is_zero(pair[1]))


@final
@dataclass(frozen=True)
class _Chain:
    """A candidate that is a pooling, or a ReLU and layers of which first and last convolve, and a batch norm.

    A convolution does not write into its input, which others read too, nor keep its output.
    """

    layers: tuple[nn.Module, ...]
    norm: nn.BatchNorm2d

    @classmethod
    def of(cls, candidate: nn.Module) -> "_Chain | None":
        """The chain that a candidate is; None if it is anything else, or somebody watches a part of it."""
        *layers, norm = modules = list(_flat(candidate))
        if not layers or any(map(_is_watched, modules)) or not _is_plain(norm):
            return None
        is_pool = isinstance(layers[0], _POOLS) and len(layers) == 1
        convolves = len(layers) > 1 and isinstance(layers[1], nn.Conv2d) and isinstance(layers[-1], nn.Conv2d)
        if not is_pool and not (type(layers[0]) is nn.ReLU and convolves):
            return None
        return cls(tuple(layers), norm)


def _term(
    candidate: nn.Module, states: States, index: int, seen: list[Statistics]
) -> tuple[torch.Tensor, nn.BatchNorm2d | None]:
    """What a candidate makes of a state, up to the batch norm that remains to be done, if one does.

    What its other batch norms see is added to `seen`.
    """
    chain = _Chain.of(candidate)
    if chain is None:
        return candidate(states[index]), None
    first = chain.layers[0]
    if isinstance(first, _POOLS):
        return _pooled(first, chain.norm, states, index, seen), None
    return _after_relu(chain.layers[1:], states, index, seen), chain.norm


def _pooled(
    pool: nn.MaxPool2d | nn.AvgPool2d,
    norm: nn.BatchNorm2d,
    states: States,
    index: int,
    seen: list[Statistics],
) -> torch.Tensor:
    settings = {name: value for name, value in vars(pool).items() if not name.startswith("_")}
    key = (index, type(pool), repr(settings), norm.eps)
    out_BCHW, statistics = states.once(key, lambda: normalize(pool(states[index]), norm))
    seen.append(statistics._replace(norm=norm))
    return out_BCHW


def _after_relu(
    layers: Sequence[nn.Module], states: States, index: int, seen: list[Statistics]
) -> torch.Tensor:
    """Layers, the last a convolution, on the ReLU of a state."""
    x_BCHW = states.once((index, nn.ReLU), lambda: functional.relu(states[index]))
    first, *rest = layers
    if isinstance(first, InTwoSteps):
        key, read = (index, nn.ReLU, first.sharing_key()), x_BCHW
        x_BCHW = first.second_step(states.once(key, lambda: first.first_step(read)), read)
    else:
        x_BCHW = first(x_BCHW)
    before = first
    while rest:
        layer, *rest = rest
        if _is_plain(layer) and isinstance(before, nn.Conv2d) and type(rest[0]) is nn.ReLU:
            x_BCHW, statistics = normalize(x_BCHW, layer, relu=True)
            seen.append(statistics)
            layer, *rest = rest
        else:
            x_BCHW = layer(x_BCHW)
        before = layer
    return x_BCHW


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that run one after the other; of anything but a ``Sequential``, itself."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and len(module):
        if _is_watched(module):
            yield module
        else:
            for child in module:
                yield from _flat(child)
    else:
        yield module


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody wants to see this module called: hooks, or a compiled call."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or module._compiled_call_impl is not None


def _is_plain(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a batch norm in training without affine parameters, of a fixed momentum."""
    return (
        type(module) in (nn.BatchNorm2d, ExactBatchNorm2d)
        and module.weight is None
        and module.training
        and module.momentum is not None
    )
