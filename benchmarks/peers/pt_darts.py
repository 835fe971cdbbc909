"""The optimizer of pt.darts (khanrc/pt.darts, ``architect.py``), written again in plain PyTorch.

It keeps one copy of the model for the virtual weights and moves weight after weight. It divides the
difference of eq. 8 by 2 and multiplies it by ε where it should divide by 2ε, so that its second-order term
is ε² times the right one: in effect ∇a L_v(w', a) alone. `fault` is that difference.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from peers import darts


class Search(darts.Search):
    """The search step with this optimizer; always second order."""

    def __init__(self, network: darts.Network, **settings: Any) -> None:
        super().__init__(network, second_order=True, **settings)
        self.moved = copy.deepcopy(network)

    def points(self, network: darts.Network) -> list[torch.Tensor]:
        """What the virtual step and the difference move."""
        return list(network.parameters())

    def scaled(self, difference: torch.Tensor, epsilon: float) -> torch.Tensor:
        """The product of a difference of gradients 2ε apart."""
        return difference / 2 * epsilon

    def backward(self, train: darts.Batch, valid: darts.Batch) -> None:
        points, moved, alphas = self.points(self.network), self.points(self.moved), self.network.alphas
        gradients = torch.autograd.grad(self.network.loss(train), points)
        with torch.no_grad():
            for point, other, gradient in zip(points, moved, gradients, strict=True):
                moment = self.optimizer.state[point].get("momentum_buffer", 0.0) * self.momentum
                other.copy_(point - self.lr * (moment + gradient + self.decay * point))
            for alpha, other in zip(alphas, self.moved.alphas, strict=True):
                other.copy_(alpha)
        gradients = torch.autograd.grad(self.moved.loss(valid), [*self.moved.alphas, *moved])
        of_alphas, vector = gradients[: len(alphas)], gradients[len(alphas) :]
        epsilon = self.epsilon(vector)
        sides = []
        for length in (epsilon, -2 * epsilon):
            self._shift(points, vector, length)
            loss = self.network.loss(train)
            sides.append(torch.autograd.grad(loss, alphas))
        self._shift(points, vector, epsilon)
        for alpha, first, plus, minus in zip(alphas, of_alphas, *sides, strict=True):
            alpha.grad = first - self.lr * self.scaled(plus - minus, epsilon)

    @torch.no_grad()
    def _shift(self, points: Sequence[torch.Tensor], vector: Sequence[torch.Tensor], length: float) -> None:
        for point, direction in zip(points, vector, strict=True):
            point += length * direction


def fault(original: darts.Search, train: darts.Batch, valid: darts.Batch) -> list[torch.Tensor]:
    """This optimizer's gradient less the right one: ξ (1 − ε²) times the product of eq. 8."""
    moved = original.virtual(train)
    vector = torch.autograd.grad(moved.loss(valid), list(moved.parameters()))
    factor = original.lr * (1 - original.epsilon(vector) ** 2)
    return [factor * part for part in original.product(vector, train)]
