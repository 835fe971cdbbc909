"""Nodes of a supernet whose mixtures are computed together."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, TypeVar, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core.batch_norm import (
    ExactBatchNorm2d,
    Statistics,
    can_normalize,
    normalize,
    track,
)
from nasframe.core.block import Block
from nasframe.core.depthwise import depthwise_convs, is_conv2d
from nasframe.core.mixed_op import MixedLayer, MixedOp, WeightedSum, is_zero, total_of
from nasframe.core.phases import AS_IT_IS, Arrangement, arrangement_of
from nasframe.core.pointwise import Seen, is_pointwise, normalized_relus, sum_of_normalized
from nasframe.core.watched import is_watched, watchers
from nasframe.core.weighted import add_weighted

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


@final
class FusedSum(Block):
    """Adds up the mixtures of several states, as `SumOfInputs` of `MixedLayer` does, all in one go.

    In training on the CPU, what candidates of all edges have in common is computed once: the ReLU
    that a state goes through, poolings with their batch norms, the order that dilated convolutions
    read it in. 1x1 convolutions are folded into the batch norms after them, and those that end a candidate
    into the weighted sum (see `nasframe.core.pointwise`). Candidates that
    are built otherwise are computed as they are; in evaluation, under autocast, on other devices and
    while PyTorch compiles, all are.

    Args:
        branches: One for each state, such as `takes` says.
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self._plan: _Plan | None = None

    def apart(self) -> list[tuple[MixedOp, int]]:
        """Mixed op and position of the candidates that are neither shared nor folded in any part."""
        sites = [branch for branch in self.branches if isinstance(branch, MixedLayer)]
        return [
            (site.mixed_op, position)
            for site in sites
            for position, candidate in enumerate(site.candidates)
            if not (is_zero(candidate) or type(candidate) is nn.Identity or _Way.of(candidate).parts)
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
        plan = self._plan
        if plan is None or not plan.holds():
            plan = self._plan = _Plan(self.branches)
        node = _Node(states)
        for index, (branch, ways) in enumerate(zip(self.branches, plan.ways, strict=True)):
            for weight, way in zip(_mixed_op(branch).shares().unbind(), ways, strict=True):
                if way is not None:
                    node.add(weight, way, index)
        total = node.total()
        if total is None:
            return total_of([branch(state) for branch, state in zip(self.branches, states, strict=False)])
        return total


def _mixed_op(branch: nn.Module) -> WeightedSum:
    assert isinstance(branch, MixedLayer)
    assert isinstance(branch.mixed_op, WeightedSum)
    return branch.mixed_op


@final
@dataclass(frozen=True)
class _Part:
    """Layers, of which the first and the last convolve, and a batch norm.

    A convolution does not write into its input, which others read too, nor keep its output.

    Attributes:
        layers: At least one.
        norm: Such as `_is_plain` says.
    """

    layers: tuple[nn.Module, ...]
    norm: nn.BatchNorm2d

    def is_separable(self) -> bool:
        """Whether the layers are a depthwise and a 1x1 convolution."""
        return len(self.layers) == 2 and _is_depthwise(self.layers[0]) and is_pointwise(self.layers[1])

    def key(self) -> Hashable:
        """Separable parts of equal keys can be computed together."""
        depthwise, pointwise = self.convolutions()
        conv = (depthwise.kernel_size, depthwise.stride, depthwise.dilation)
        return (*conv, pointwise.weight.shape, self.norm.eps)

    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """Of a separable part."""
        depthwise, pointwise = self.layers
        assert isinstance(depthwise, nn.Conv2d)
        assert isinstance(pointwise, nn.Conv2d)
        return depthwise, pointwise


@final
@dataclass(frozen=True)
class _Way:
    """How a candidate is computed.

    Attributes:
        candidate: As a whole, if it has no parts.
        parts: A pooling and its batch norm, or parts with a ReLU before each.
        key: Poolings of equal keys are the same; candidates of separable parts can be computed together;
            None for others.
    """

    candidate: nn.Module
    parts: tuple[_Part, ...]
    key: Hashable

    @classmethod
    def of(cls, candidate: nn.Module) -> "_Way":
        parts = _parts_of(candidate)
        key: Hashable = None
        if parts and isinstance(pool := parts[0].layers[0], _POOLS):
            settings = {name: value for name, value in vars(pool).items() if not name.startswith("_")}
            key = (type(pool), repr(settings), parts[0].norm.eps)
        elif parts and all(part.is_separable() for part in parts):
            key = tuple(part.key() for part in parts)
        return cls(candidate, parts, key)


@final
class _Plan:
    """The ways of all candidates of a node, as long as these stay what they are.

    Attributes:
        ways: By branch and candidate; None for one that is always zero.
    """

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        self.ways: list[list[_Way | None]] = []
        self._norms: list[nn.BatchNorm2d] = []
        self._watchers: list[Mapping[Any, Any]] = []
        self._children: list[tuple[Mapping[str, nn.Module | None], list[nn.Module | None]]] = []
        for branch in branches:
            assert isinstance(branch, MixedLayer)
            self.ways.append(
                [None if is_zero(each) else self._remembered(_Way.of(each)) for each in branch.candidates]
            )
            self._remember_children(branch.candidates)

    def holds(self) -> bool:
        """Whether no candidate was replaced, watched or frozen since."""
        return (
            not any(self._watchers)
            and all(norm.training and norm.momentum is not None for norm in self._norms)
            and all(list(children.values()) == before for children, before in self._children)
        )

    def _remembered(self, way: _Way) -> _Way:
        if way.parts:
            for module in way.candidate.modules():
                self._watchers.extend(watchers(module))
                self._remember_children(module)
            self._norms += [part.norm for part in way.parts]
        return way

    def _remember_children(self, module: nn.Module) -> None:
        if module._modules:
            self._children.append((module._modules, list(module._modules.values())))


@final
@dataclass(frozen=True)
class _Bundle:
    """Candidates of one build: K terms, computed together.

    Attributes:
        weights: K of the mixture.
        parts: K times the parts.
        states: The state that each reads.
    """

    weights: list[torch.Tensor]
    parts: list[tuple[_Part, ...]]
    states: list[int]


@final
class _Node:
    """The terms of one node."""

    def __init__(self, states: States) -> None:
        self._states = states
        self._bundles: dict[Hashable, _Bundle] = {}
        self._sums: dict[Hashable, _Sum] = {}
        self._done: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._seen: list[Statistics] = []
        self._joined: dict[Hashable, torch.Tensor] = {}

    def add(self, weight: torch.Tensor, way: _Way, index: int) -> None:
        """One more term: a candidate on a state."""
        if not way.parts:
            self._done.append((weight, way.candidate(self._states[index])))
        elif isinstance(way.parts[0].layers[0], _POOLS):
            self._done.append((weight, self._pooled(way, index)))
        elif way.key is None:
            self._done.append((weight, self._alone(way.parts, index)))
        else:
            key = (self._states[index].shape, way.key)
            bundle = self._bundles.setdefault(key, _Bundle([], [], []))
            bundle.weights.append(weight)
            bundle.parts.append(way.parts)
            bundle.states.append(index)

    def total(self) -> torch.Tensor | None:
        """The sum of all terms, None if there are none."""
        for bundle in self._bundles.values():
            self._compute(bundle)
        # a sum that is arranged as the image is no view, into which others are written at less cost
        sums = sorted(self._sums.values(), key=lambda each: each.arrangement is not AS_IT_IS)
        total: torch.Tensor | None = None
        others: list[torch.Tensor] = []
        for each in sums:
            out_BCHW, seen = sum_of_normalized(torch.stack(each.scales), each.xs, each.weights, each.eps)
            self._seen += _statistics(each.norms, seen)
            restored_BCHW = each.arrangement.restore(out_BCHW)
            if total is None:
                total = restored_BCHW
            elif restored_BCHW.shape == total.shape:
                total = total.add_(restored_BCHW)
            else:
                others.append(restored_BCHW)
        added: list[tuple[torch.Tensor, torch.Tensor]] = []
        for weight, term_BCHW in self._done:
            if total is None:
                total = weight * term_BCHW
            elif term_BCHW.shape == total.shape:
                added.append((weight, term_BCHW))
            else:
                others.append(weight * term_BCHW)
        if total is not None and added:
            total = add_weighted(total, *zip(*added, strict=True))
        track(self._seen)
        if total is None:
            return None
        total = total_of([total, *others])
        return total.contiguous() if self._states[0].is_contiguous() else total

    def _compute(self, bundle: _Bundle) -> None:
        """All parts of a bundle but the last sum."""
        x_BXHW: torch.Tensor | None = None
        num_parts = len(bundle.parts[0])
        for number, parts in enumerate(zip(*bundle.parts, strict=True), start=1):
            depthwise, pointwise = zip(*(part.convolutions() for part in parts), strict=True)
            conv, norms = depthwise[0], [part.norm for part in parts]
            joined_BXHW = None
            if x_BXHW is None:
                arrangement = arrangement_of(conv, self._states[bundle.states[0]])
                xs = [self._arranged(index, arrangement) for index in bundle.states]
                joined_BXHW = self._side_by_side(bundle.states, arrangement, xs)
            else:
                arrangement = arrangement_of(conv, x_BXHW)
                xs = [arrangement.arrange(x_BXHW)]
            plain = arrangement is AS_IT_IS
            x_BXHW = depthwise_convs(
                xs,
                [each.weight for each in depthwise],
                stride=conv.stride[0] if plain else 1,
                dilation=conv.dilation[0] if plain else 1,
                joined=joined_BXHW,
            )
            weights = [each.weight for each in pointwise]
            if number < num_parts:
                x_BXHW, seen = normalized_relus(x_BXHW, weights, norms[0].eps)
                x_BXHW = arrangement.restore(x_BXHW)
                self._seen += _statistics(norms, seen)
            else:
                b, _, h, w = x_BXHW.shape
                key = (arrangement, (b, h, w), weights[0].shape, norms[0].eps)
                each = self._sums.setdefault(key, _Sum(arrangement, norms[0].eps, [], [], [], []))
                each.xs.append(x_BXHW)
                each.weights.extend(weights)
                each.scales.extend(bundle.weights)
                each.norms.extend(norms)

    def _side_by_side(
        self, states: Sequence[int], arrangement: Arrangement, xs: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Inputs, channels after channels, which kernels of several sizes read."""
        key = (tuple(states), arrangement)
        if key not in self._joined:
            with torch.no_grad():
                self._joined[key] = torch.cat(list(xs), dim=1)
        return self._joined[key]

    def _alone(self, parts: Sequence[_Part], index: int) -> torch.Tensor:
        """A candidate on a state, part after part."""
        x_BCHW = self._relu(index)
        for number, part in enumerate(parts, start=1):
            for layer in part.layers:
                x_BCHW = layer(x_BCHW)
            x_BCHW, statistics = normalize(x_BCHW, part.norm, relu=number < len(parts))
            self._seen.append(statistics)
        return x_BCHW

    def _relu(self, index: int) -> torch.Tensor:
        return self._states.once((index, nn.ReLU), lambda: functional.relu(self._read(index)))

    def _arranged(self, index: int, arrangement: Arrangement) -> torch.Tensor:
        """The ReLU of a state in another order."""
        key = (index, nn.ReLU, arrangement)
        return self._states.once(key, lambda: arrangement.arrange(self._relu(index)))

    def _read(self, index: int) -> torch.Tensor:
        """A state in the memory format in which the CPU is fast."""
        state_BCHW = self._states[index]
        key = (index, torch.channels_last)
        return self._states.once(key, lambda: state_BCHW.contiguous(memory_format=torch.channels_last))

    def _pooled(self, way: _Way, index: int) -> torch.Tensor:
        (pool,), norm = way.parts[0].layers, way.parts[0].norm
        out_BCHW, statistics = self._states.once(
            (index, way.key), lambda: normalize(pool(self._read(index)), norm)
        )
        self._seen.append(statistics._replace(norm=norm))
        return out_BCHW


@final
@dataclass(frozen=True)
class _Sum:
    """What one weighted sum of batch norms takes: tensors that hold K inputs, and K of all else."""

    arrangement: Arrangement
    eps: float
    xs: list[torch.Tensor]
    weights: list[torch.Tensor]
    scales: list[torch.Tensor]
    norms: list[nn.BatchNorm2d]


def _statistics(norms: Sequence[nn.BatchNorm2d], seen: Seen) -> list[Statistics]:
    """What each batch norm saw."""
    return [
        Statistics(norm, mean_D, var_D, seen.num_values)
        for norm, mean_D, var_D in zip(norms, seen.mean_KD.unbind(), seen.var_KD.unbind(), strict=True)
    ]


def _parts_of(candidate: nn.Module) -> tuple[_Part, ...]:
    """The parts of a candidate that is a pooling and a batch norm, or such parts with a ReLU before each.

    Empty if it is anything else, or somebody watches a piece of it.
    """
    *layers, norm = modules = list(_flat(candidate))
    if not layers or any(map(is_watched, modules)) or not _is_plain(norm):
        return ()
    if isinstance(layers[0], _POOLS) and len(layers) == 1:
        return (_Part((layers[0],), norm),)
    if type(layers[0]) is not nn.ReLU:
        return ()
    parts: list[_Part] = []
    run: list[nn.Module] = []
    for layer in layers[1:]:
        if type(layer) is nn.ReLU and run and _is_plain(last := run[-1]):
            parts.append(_Part(tuple(run[:-1]), last))
            run = []
        else:
            run.append(layer)
    parts.append(_Part(tuple(run), norm))
    return tuple(parts) if all(map(_convolves, parts)) else ()


def _convolves(part: _Part) -> bool:
    return bool(part.layers) and all(
        isinstance(each, nn.Conv2d) for each in (part.layers[0], part.layers[-1])
    )


def _is_depthwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it has one odd kernel a channel and keeps the map's size but for the stride."""
    if not is_conv2d(layer) or not layer.groups == layer.in_channels == layer.out_channels:
        return False
    (size, width), (stride, across) = layer.kernel_size, layer.stride
    keeps_size = size % 2 == 1 and layer.padding == (size // 2 * layer.dilation[0],) * 2
    square = size == width and stride == across and layer.dilation in ((1, 1), (2, 2))
    return keeps_size and square and layer.padding_mode == "zeros" and layer.bias is None


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that run one after the other; of anything but a ``Sequential``, itself."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and len(module):
        if is_watched(module):
            yield module
        else:
            for child in module:
                yield from _flat(child)
    else:
        yield module


def _is_plain(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a batch norm in training without affine parameters, of a fixed momentum."""
    return (
        type(module) in (nn.BatchNorm2d, ExactBatchNorm2d)
        and module.weight is None
        and module.training
        and module.momentum is not None
    )
