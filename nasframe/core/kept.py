"""How probable it is that a derived network keeps a candidate."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch

from nasframe.core.choice import Choice, InputChoice

_SMALLEST: Final = 1e-30  # a weight of 0 counts as this, so that shares of it are defined


def keep_probabilities(
    choices: Mapping[str, Choice], weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The probability that a genotype keeps each candidate, differentiable in the weights.

    Genotypes are distributed in proportion to the product of the weights of what they keep, so that the
    one that DARTS's rule derives is the most likely. It follows that

    - a choice that keeps one candidate keeps k with p_k / Σ p over candidates that may be kept (not
      ``none``);
    - one that keeps m of n keeps k with t_k e_{m−1}(t without k) / e_m(t), where t are its weights and e
      the elementary symmetric polynomials (conditional Bernoulli sampling: Chen, Dempster, Liu 1994);
    - an input choice with edges does so with t_k = w_k Σ p over what may be kept of edge k, w_k its own
      weight of the input where it has one, and an edge's candidate is kept where its edge is.

    Args:
        choices: Those of the space, by id.
        weights: Of the candidates, of shape K, by choice id; those of choices with a mixed op.

    Returns:
        Probabilities of shape K for the same ids; the sum over a choice is the number that it keeps on
        average.
    """
    allowed = {name: _allowed(choices[name], weights_K) for name, weights_K in weights.items()}
    kept = {name: _inclusion(own, choices[name].num_chosen) for name, own in allowed.items()}
    for choice in choices.values():
        edges = choice.edges if isinstance(choice, InputChoice) else ()
        if edges:
            strengths = torch.stack([allowed[edge].sum() for edge in edges])
            reached = _inclusion(strengths * allowed.get(choice.id, 1), choice.num_chosen)
            if choice.id in kept:
                kept[choice.id] = reached
            kept.update((edge, kept[edge] * share) for edge, share in zip(edges, reached, strict=True))
    return kept


def _allowed(choice: Choice, weights_K: torch.Tensor) -> torch.Tensor:
    """The weights of candidates that may be kept; 0 of the others."""
    weights_K = weights_K.clamp(min=_SMALLEST)
    if not choice.search_only:
        return weights_K
    may_be = [name not in choice.search_only for name in choice.candidates]
    return weights_K * torch.tensor(may_be, device=weights_K.device)


def _inclusion(weights_N: torch.Tensor, num_chosen: int) -> torch.Tensor:
    """The probability that each of N is among the chosen, of shape N."""
    if num_chosen == 1:
        return weights_N / weights_N.sum()
    weights_N = weights_N / weights_N.detach().max()  # products of small numbers would vanish
    others_NN = weights_N.expand(len(weights_N), -1) * (1 - torch.eye(len(weights_N)).to(weights_N))
    in_chosen_N = weights_N * _symmetric_polynomial(others_NN.unbind(1), num_chosen - 1)
    return num_chosen * in_chosen_N / in_chosen_N.sum()


def _symmetric_polynomial(columns: Sequence[torch.Tensor], degree: int) -> torch.Tensor:
    """The sum of all products of `degree` different columns."""
    sums = [torch.ones_like(columns[0]), *(torch.zeros_like(columns[0]) for _ in range(degree))]
    for column in columns:
        for order in reversed(range(1, degree + 1)):
            sums[order] = sums[order] + column * sums[order - 1]
    return sums[degree]
