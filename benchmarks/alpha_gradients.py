"""What the gradient of the alphas consists of, each part computed in the plainest way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional

import nasframe
from early_search import EarlySearch
from nasframe.core import VirtualStep, swapped

Tensors = dict[str, torch.Tensor]


class Losses:
    """A search's loss on a batch and its slopes, with some parameters replaced; the search stays as it is.

    Args:
        search: Gives model and objective.
        batch: Whose loss it is.
    """

    def __init__(self, search: EarlySearch, batch: nasframe.Batch) -> None:
        self.model, self._objective = search.model, search.objective
        self._batch = search.taken(batch)
        self.alphas = detached(self.model.named_parameters_at("upper"))
        self.weights = detached(self.model.named_parameters_at("lower"))

    def loss(self, replaced: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """With its graph; the model must not be one that runs forward again in the backward pass."""
        with swapped(self.model, replaced):
            return self._objective.loss(self.model(self._batch.inputs), self._batch.targets)

    def slopes(
        self, by: Tensors, at: Mapping[str, torch.Tensor], *, create_graph: bool = False
    ) -> dict[str, torch.Tensor | None]:
        """∇ of the loss by some tensors, which are among those that it is taken `at`."""
        found = torch.autograd.grad(
            self.loss(at), list(by.values()), create_graph=create_graph, allow_unused=True
        )
        return dict(zip(by, found, strict=True))

    def alpha_slopes(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """∇a, of shape N, with these weights."""
        alphas = watched(self.alphas)
        return flat(self.slopes(alphas, {**alphas, **weights}), self.alphas)


class MixedProduct(Losses):
    """∇²a,w L_t(w, a)·v on one training batch, in several ways; of shape N, the alphas in their order.

    Args:
        search: Gives model and objective.
        train: Of L_t.
        v: By name of a weight.
    """

    def __init__(self, search: EarlySearch, train: nasframe.Batch, v: Tensors) -> None:
        super().__init__(search, train)
        self.v, self._sides = v, dict[float, torch.Tensor]()
        self.length = float(torch.stack([each.norm() for each in v.values()]).norm())
        """‖v‖."""

    def exact(self) -> torch.Tensor:
        """By double backward."""
        alphas = watched(self.alphas)
        along = self._along_v(alphas, create_graph=True)
        found = torch.autograd.grad(along, list(alphas.values()), allow_unused=True)
        return flat(dict(zip(alphas, found, strict=True)), self.alphas)

    def central(self, epsilon: float) -> torch.Tensor:
        """By ∇a L_t at w ± ε v, ε = epsilon / ‖v‖: the difference divided by 2 ε (the paper's, eq. 8)."""
        plus, minus = self._beside(epsilon), self._beside(-epsilon)
        return (plus - minus) * (self.length / (2 * epsilon))

    def one_sided(self, epsilon: float) -> torch.Tensor:
        """By ∇a L_t at w + ε v and at w: the difference divided by ε."""
        return (self._beside(epsilon) - self._beside(0.0)) * (self.length / epsilon)

    def by_alphas(self, direction: torch.Tensor, delta: float) -> float:
        """The component along a direction, by the other difference: of v·∇w L_t at a ± delta · direction.

        Args:
            direction: Of shape N and length 1.
            delta: Length of the step to both sides.
        """
        plus, minus = (
            float(self._along_v(self._shifted(sign * delta * direction)).detach()) for sign in (1, -1)
        )
        return (plus - minus) / (2 * delta)

    def crossed(self, epsilon: float) -> dict[str, float]:
        """Share of the ReLUs' signs and of the max pools' winners that differ between w ± ε v."""
        one, other = self._patterns(epsilon), self._patterns(-epsilon)
        return {
            kind: sum(int((a != b).sum()) for a, b in zip(one[kind], other[kind], strict=True))
            / max(1, sum(each.numel() for each in one[kind]))
            for kind in one
        }

    def _beside(self, distance: float) -> torch.Tensor:
        if distance not in self._sides:
            self._sides[distance] = self.alpha_slopes(self._moved(distance))
        return self._sides[distance]

    def _moved(self, distance: float) -> Tensors:
        step = distance / self.length
        return {name: torch.add(self.weights[name], each, alpha=step) for name, each in self.v.items()}

    def _shifted(self, offset: torch.Tensor) -> Tensors:
        pieces = offset.split([alpha.numel() for alpha in self.alphas.values()])
        return {
            name: alpha + piece.view_as(alpha).to(alpha.dtype)
            for (name, alpha), piece in zip(self.alphas.items(), pieces, strict=True)
        }

    def _along_v(self, alphas: Tensors, *, create_graph: bool = False) -> torch.Tensor:
        """v·∇w L_t."""
        weights = watched({name: self.weights[name] for name in self.v})
        slopes = self.slopes(weights, {**weights, **alphas}, create_graph=create_graph)
        parts = [(slope * self.v[name]).sum() for name, slope in slopes.items() if slope is not None]
        return torch.stack(parts).sum()

    def _patterns(self, distance: float) -> dict[str, list[torch.Tensor]]:
        seen: dict[str, list[torch.Tensor]] = {"relu": [], "max_pool": []}
        relu, max_pool = functional.relu, functional.max_pool2d

        def seen_relu(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
            seen["relu"].append(x > 0)
            return relu(x)

        def seen_max_pool(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            out, winners = max_pool(x, *args, **{**kwargs, "return_indices": True})
            seen["max_pool"].append(winners)
            return out

        with torch.no_grad(), other_functions(relu=seen_relu, max_pool2d=seen_max_pool):
            self.loss(self._moved(distance))
        return seen


class AlphaGradients:
    """Parts of ∇a L_v(w', a), w' = w − U(∇w L_t(w, a)), on a pair of batches (Liu et al. 2019, eq. 6, 7).

    Args:
        search: Gives model, objective and the real optimizer's step; nothing of it changes.
        train: Of L_t.
        valid: Of L_v.

    Attributes:
        before_step: ∇a L_v(w, a), the first-order gradient.
        after_step: ∇a L_v(w', a); less `product` it is the second-order gradient.
        product: ∇²a,w L_t(w, a)·v.
    """

    def __init__(self, search: EarlySearch, train: nasframe.Batch, valid: nasframe.Batch) -> None:
        of_train, of_valid = Losses(search, train), Losses(search, valid)
        parameters = dict(search.model.named_parameters_at("lower"))
        weights = watched(of_train.weights)
        step = VirtualStep(
            search.update.optimizer,
            parameters,
            of_train.slopes(weights, weights),
            search.update.max_grad_norm,
        )
        after, alphas = watched(step.weights), watched(of_valid.alphas)
        slopes = of_valid.slopes({**after, **alphas}, {**after, **alphas})
        self.before_step = of_valid.alpha_slopes(of_valid.weights)
        self.after_step = flat(slopes, of_valid.alphas)
        self.product = MixedProduct(search, train, step.transpose({name: slopes[name] for name in after}))


def mean_v(search: EarlySearch, batches: Sequence[nasframe.Batch]) -> Tensors:
    """The mean of ∇w L_v(w, a) over batches; for plain SGD, v is this times the learning rate."""
    total: Tensors = {}
    for batch in batches:
        losses = Losses(search, batch)
        weights = watched(losses.weights)
        for name, slope in losses.slopes(weights, weights).items():
            if slope is not None:
                total[name] = total[name] + slope if name in total else slope
    return {name: slope / len(batches) for name, slope in total.items()}


def detached(named: Any) -> Tensors:
    """Values by name."""
    return {name: parameter.detach() for name, parameter in named}


def watched(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Leaves of the same values that gradients are taken by."""
    return {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}


def flat(slopes: Mapping[str, torch.Tensor | None], alphas: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The slopes by `alphas` as one vector of float64; zeros where there is none."""
    pieces = [
        torch.zeros_like(alpha) if (slope := slopes[name]) is None else slope.detach()
        for name, alpha in alphas.items()
    ]
    return torch.cat([piece.flatten() for piece in pieces]).double()


@contextmanager
def smoothed(*, relu: bool = True, max_pool: bool = True, sharpness: float = 5.0) -> Iterator[None]:
    """Inside, ReLU is softplus, and max pooling is average pooling; for supernets without fused nodes."""
    others: dict[str, Callable[..., torch.Tensor]] = {}
    if relu:
        others["relu"] = lambda x, inplace=False: functional.softplus(x, beta=sharpness, threshold=1e3)
    if max_pool:
        others["max_pool2d"] = lambda x, size, stride, padding, *_, **__: functional.avg_pool2d(
            x, size, stride, padding
        )
    with other_functions(**others):
        yield


@contextmanager
def other_functions(**others: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Inside, these functions of ``torch.nn.functional`` are others, in modules too."""
    with ExitStack() as stack:
        for name, other in others.items():
            stack.enter_context(patch.object(functional, name, other))
        yield
