"""The `BilevelOptimizer` of Archai (archai.supergraph), written again in plain PyTorch.

The optimizer of pt.darts with the right divisor, but with the alphas among the weights: the virtual step
computes their gradients, ε counts them, and w± move them. Its gradient has the extra term
−ξ ∇²αα L_t · ∇α L_v, here as the difference that it computes; `fault` is that term. Not written again: that
Archai's trainer gives the alphas to the optimizer of the weights too.
"""

import torch

from peers import darts, pt_darts


class Search(pt_darts.Search):
    """The search step with this optimizer; always second order."""

    def points(self, network: darts.Network) -> list[torch.Tensor]:
        return [*network.alphas, *network.parameters()]

    def scaled(self, difference: torch.Tensor, epsilon: float) -> torch.Tensor:
        return difference / (2 * epsilon)


def fault(original: darts.Search, train: darts.Batch, valid: darts.Batch) -> list[torch.Tensor]:
    """This optimizer's gradient less the right one."""
    network, moved = original.network, original.virtual(train)
    weights, alphas = list(moved.parameters()), moved.alphas
    of_alphas = torch.autograd.grad(moved.loss(valid), alphas)
    of_weights = torch.autograd.grad(moved.loss(valid), weights)
    together = darts.central_difference(
        network,
        train,
        [*network.parameters(), *network.alphas],
        [*of_weights, *of_alphas],
        original.epsilon([*of_weights, *of_alphas]),
    )
    right = original.product(of_weights, train)
    return [-original.lr * (one - other) for one, other in zip(together, right, strict=True)]
