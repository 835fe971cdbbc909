"""Contenders of the ProxylessNAS experiments, from the same weights, on the same draws."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

import nasframe
from nasframe.core import Batch, Model, Task
from peers import mobile, proxylessnas

_PARTS = nasframe.registries
_ALPHA_LR = 1e-3


@dataclass(frozen=True)
class Setting:
    """A chain of mobile blocks and its batches.

    Attributes:
        widths: Channels of each stage.
        depth: Searched layers of each stage.
        features: Channels before the classifier.
        batch: Images of each of the two batches, of 32x32 pixels.
        dtype: Of weights, alphas and images.
    """

    widths: tuple[int, ...] = (24, 40, 80)
    depth: int = 3
    features: int = 1280
    batch: int = 16
    dtype: torch.dtype = torch.float32

    def check(self) -> "Setting":
        """A small one in float64."""
        return replace(self, widths=(8, 12), depth=2, features=16, batch=4, dtype=torch.float64)


@dataclass(frozen=True)
class Drawn:
    """What one site draws: two paths for a step on two paths, and which of them runs."""

    two: tuple[int, int]
    active: int


def draw(index: int, counts: Sequence[int]) -> list[Drawn]:
    """The `index`-th draw of all sites, uniform, by their numbers of candidates."""
    generator = torch.Generator().manual_seed(index)
    orders = [torch.randperm(count, generator=generator).tolist() for count in counts]
    return [Drawn((min(order[:2]), max(order[:2])), order[0]) for order in orders]


def supernet(setting: Setting) -> Model:
    """The supernet that nasframe builds, the same for equal settings; everyone starts from its weights."""
    torch.manual_seed(0)
    stages = len(setting.widths)
    space = _PARTS["spaces"]["mobile"](
        Task(),
        widths=setting.widths,
        depths=(setting.depth,) * stages,
        strides=(1,) + (2,) * (stages - 1),
        stem="cifar",
        stem_channels=mobile.STEM,
        first_channels=mobile.FIRST,
        features=setting.features,
    )
    gates = _PARTS["mixed_ops"].component("binary_gate", init_std=1.0)
    return nasframe.supernet(space, gates).to(setting.dtype)


def batches(setting: Setting, *, channels_last: bool) -> tuple[Batch, Batch]:
    """A training and a held-out batch of noise."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, setting.batch, 3, 32, 32, generator=generator).to(setting.dtype)
    classes = torch.randint(10, (2, setting.batch), generator=generator)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return tuple(Batch(images[i].contiguous(memory_format=layout), classes[i]) for i in range(2))


def weight_optimizer(weights: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """That of `cifar_proxyless`, for every contender."""
    return torch.optim.SGD(weights, 0.025, momentum=0.9, nesterov=True, weight_decay=4e-5)


class Nasframe:
    """nasframe's own algorithm; its draws are the given ones, and cost what its own do.

    Args:
        setting: Supernet and batches.
        update: Setting of `proxyless`.
        channels_last: The trainer's setting of this name.
    """

    def __init__(
        self, setting: Setting, *, update: Literal["all_paths", "two_paths"], channels_last: bool = True
    ) -> None:
        objective = _PARTS["objectives"]["cross_entropy"]()
        self.model = supernet(setting)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.train, self.valid = batches(setting, channels_last=channels_last)
        self.draws = 0
        self.model.sample = self._sample
        optimizer = weight_optimizer(list(self.model.parameters_of("weight")))
        self.update = nasframe.WeightUpdate(self.model, objective, optimizer)
        self.algorithm = _PARTS["algorithms"]["proxyless"](self.model, objective, update=update)

    def step(self) -> object:
        return self.algorithm.step(self.train, self.valid, self.update)

    def alpha_step(self) -> object:
        return self.gradients()

    def gradients(self) -> list[torch.Tensor]:
        return self.algorithm.upper_gradients(self.train, self.valid, self.update)

    def _sample(self, generator: torch.Generator, num_paths: int | None = None) -> None:
        """`Model.sample`, but by logits that leave the noise no say."""
        ops = list(self.model.mixed_ops.values())
        drawn = draw(self.draws, [len(op.alpha) for op in ops])
        self.draws += 1
        for op, each in zip(ops, drawn, strict=True):
            logits_K = torch.full((len(op.alpha),), -1e6, dtype=torch.float64)
            logits_K[list(each.two)] = -1e3
            logits_K[each.active] = 0.0
            op.draw(logits_K, generator, num_paths)


class Peer:
    """A search on the plainly written network, from nasframe's weights.

    Args:
        setting: Network and batches.
        site: Makes a site of its candidates; one with a parameter `alpha` and a method `draw`.
    """

    def __init__(self, setting: Setting, site: Any) -> None:
        start = supernet(setting)
        self.network = _network(setting, site, start)
        self.alphas = [each.alpha for each in self.network.sites]
        for own, alpha in zip(self.alphas, start.parameters_of("alpha"), strict=True):
            own.data.copy_(alpha.detach())
        self.train, self.valid = batches(setting, channels_last=False)
        self.optimizer = weight_optimizer(self.network.weights)
        self.alpha_optimizer = torch.optim.Adam(self.alphas, lr=_ALPHA_LR, betas=(0.0, 0.999))
        self.draws = 0

    def draw(self, offset: int) -> None:
        """Set the draw of this iteration that nasframe makes `offset` draws after its first."""
        drawn = draw(self.draws + offset, [len(alpha) for alpha in self.alphas])
        for site, each in zip(self.network.sites, drawn, strict=True):
            site.draw(range(len(site.alpha)), each.active)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.network(batch.inputs), batch.targets)


class Nni(Peer):
    """NNI's iteration: alphas, then weights; both passes recompute all paths."""

    def __init__(self, setting: Setting) -> None:
        from peers import nni

        super().__init__(setting, nni.Site)

    def step(self) -> object:
        self.alpha_step(1)
        self.draw(0)
        self.draws += 2
        self.optimizer.zero_grad()
        self.loss(self.train).backward()
        return self.optimizer.step()

    def alpha_step(self, offset: int = 0) -> object:
        self.draw(offset)
        self.alpha_optimizer.zero_grad()
        self.loss(self.valid).backward()
        return self.alpha_optimizer.step()

    def gradients(self) -> list[torch.Tensor]:
        self.draw(0)
        self.loss(self.valid).backward()
        return [alpha.grad for alpha in self.alphas]


class Authors(Peer):
    """The authors' iteration: weights on the active path, then alphas.

    Args:
        setting: Network and batches.
        mode: How alphas learn.
    """

    def __init__(self, setting: Setting, *, mode: Literal["full_v2", "two"]) -> None:
        super().__init__(setting, proxylessnas.Site)
        self.mode = mode

    def draw(self, offset: int) -> None:
        drawn = draw(self.draws + offset, [len(alpha) for alpha in self.alphas])
        for site, each in zip(self.network.sites, drawn, strict=True):
            site.draw(each.two if site.mode == "two" else range(len(site.alpha)), each.active)

    def set_mode(self, mode: Literal["full_v2", "two"] | None) -> None:
        """Set the mode of all sites."""
        for site in self.network.sites:
            site.mode = mode

    def step(self) -> object:
        self.set_mode(None)
        self.draw(0)
        self.optimizer.zero_grad()
        self.loss(self.train).backward()
        self.optimizer.step()
        self.alpha_step(1)
        self.draws += 2
        return None

    def alpha_step(self, offset: int = 0) -> object:
        self.backward(offset)
        before = [alpha.data.clone() for alpha in self.alphas]
        self.alpha_optimizer.step()
        if self.mode == "two":
            for site, alpha in zip(self.network.sites, before, strict=True):
                site.rescale(alpha)
        return None

    def backward(self, offset: int) -> None:
        """Gradients of alphas, and of all else that the backward pass of the authors reaches."""
        self.set_mode(self.mode)
        self.draw(offset)
        self.network.zero_grad()
        self.loss(self.valid).backward()
        for site in self.network.sites:
            site.set_gradient()

    def gradients(self) -> list[torch.Tensor]:
        self.backward(0)
        return [alpha.grad for alpha in self.alphas]


class OnePath:
    """Plain training of the network that the weight step of the search draws; no alphas, no gates.

    Args:
        setting: Network and batches.
        channels_last: Memory format.
    """

    def __init__(self, setting: Setting, *, channels_last: bool) -> None:
        self.network = _network(setting, mobile.OnePath, supernet(setting))
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.train, _ = batches(setting, channels_last=channels_last)
        self.optimizer = weight_optimizer(self.network.weights)
        self.draws = 0

    def step(self) -> object:
        drawn = draw(self.draws, [len(site.candidates) for site in self.network.sites])
        self.draws += 2
        for site, each in zip(self.network.sites, drawn, strict=True):
            site.active = each.active
        self.optimizer.zero_grad()
        functional.cross_entropy(self.network(self.train.inputs), self.train.targets).backward()
        return self.optimizer.step()

    alpha_step = step


def _network(setting: Setting, site: Any, start: Model) -> nn.Module:
    network = mobile.Network(site, setting.widths, setting.depth, setting.features).to(setting.dtype)
    for own, value in zip(network.weights, start.parameters_of("weight"), strict=True):
        if own.shape != value.shape:
            raise ValueError(f"peers.mobile: weight must have shape {own.shape}, got {value.shape}")
        own.data.copy_(value.detach())
    return network
