"""What the mean over all batches is like, judged from a few: by products between different batches alone.

The mean of n noisy vectors is longer than the one that they are drawn around, and shares its noise with each
of them. The product of two *different* draws has neither fault: its expectation is the product of the
expectations. So every length and angle here is made of sums over i ≠ j (U-statistics; Hoeffding 1948).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

RESAMPLES = 1000


class Draws:
    """Vectors of several sorts, one of each sort for each of n batches, and R ways to count the batches.

    All figures are of shape R; nan where noise hides a length.

    Args:
        vectors: By sort, of shape n N; the i-th of all sorts are of the same batch.
        counts_Rn: How often each batch counts; every batch once by default.
    """

    def __init__(self, vectors: Mapping[str, torch.Tensor], counts_Rn: torch.Tensor | None = None) -> None:
        self._vectors = {name: each.double() for name, each in vectors.items()}
        size = len(next(iter(self._vectors.values())))
        self._counts_Rn = torch.ones(1, size).double() if counts_Rn is None else counts_Rn.double()

    def __len__(self) -> int:
        return self._counts_Rn.shape[1]

    def counted(self, counts_Rn: torch.Tensor) -> "Draws":
        """The same draws, counted otherwise."""
        return Draws(self._vectors, counts_Rn)

    def product(self, one: str, other: str) -> torch.Tensor:
        """⟨E one, E other⟩, from pairs of different batches."""
        counts_Rn = self._counts_Rn
        products_nn = self._products(one, other).fill_diagonal_(0)
        total_R = ((counts_Rn @ products_nn) * counts_Rn).sum(1)
        return total_R / (counts_Rn.sum(1).square() - counts_Rn.square().sum(1))

    def cosine(self, one: str, other: str) -> torch.Tensor:
        """Between E one and E other."""
        return _divided(self.product(one, other), self.length(one) * self.length(other))

    def length(self, one: str) -> torch.Tensor:
        """‖E one‖."""
        return self.product(one, one).sqrt()

    def share(self, one: str, other: str) -> torch.Tensor:
        """The component of E one along E other, in lengths of the latter."""
        return _divided(self.product(one, other), self.product(other, other))

    def bias(self, one: str, truth: str) -> torch.Tensor:
        """‖E one − E truth‖² / ‖E truth‖²; around 0, and below it by chance, where there is no difference."""
        of_truth = self.product(truth, truth)
        difference = self.product(one, one) - 2 * self.product(one, truth) + of_truth
        return _divided(difference, of_truth)

    def error(self, one: str, truth: str) -> torch.Tensor:
        """E ‖one − E truth‖² / ‖E truth‖²: what a single batch is off by."""
        of_truth = self.product(truth, truth)
        squares = self._mean(self._products(one, one).diagonal())
        return _divided(squares - 2 * self.product(one, truth) + of_truth, of_truth)

    def single_cosine(self, one: str, truth: str) -> torch.Tensor:
        """The mean cosine between what a single batch gives and E truth."""
        lengths_n = self._vectors[one].norm(dim=1)
        along_nn = self._products(one, truth).fill_diagonal_(0) / lengths_n[:, None]
        counts_Rn = self._counts_Rn
        others_Rn = counts_Rn.sum(1, keepdim=True) - counts_Rn
        mean_R = ((counts_Rn @ along_nn.T) / others_Rn * counts_Rn).sum(1) / counts_Rn.sum(1)
        return _divided(mean_R, self.length(truth))

    def _products(self, one: str, other: str) -> torch.Tensor:
        return self._vectors[one] @ self._vectors[other].T

    def _mean(self, values_n: torch.Tensor) -> torch.Tensor:
        return (self._counts_Rn @ values_n) / self._counts_Rn.sum(1)


@dataclass(frozen=True)
class Estimate:
    """A figure and its 90 % interval; None where noise leaves it open."""

    value: float | None
    lower: float | None
    upper: float | None


def estimate(draws: Draws, statistic: Callable[[Draws], torch.Tensor]) -> Estimate:
    """By the bootstrap over batches, 5th to 95th percentile; one drawn twice makes no pair with itself."""
    drawn_Rn = _resampled(len(draws))
    counts_Rn = torch.nn.functional.one_hot(drawn_Rn, len(draws)).sum(1)
    return _estimate(statistic(draws), statistic(draws.counted(counts_Rn)))


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of one value a batch, and its 90 % interval by the bootstrap."""
    each_n = torch.tensor(values, dtype=torch.float64)
    return _estimate(each_n.mean(), each_n[_resampled(len(each_n))].mean(1))


def _resampled(size: int) -> torch.Tensor:
    return torch.randint(size, (RESAMPLES, size), generator=torch.Generator().manual_seed(0))


def _estimate(value: torch.Tensor, values_R: torch.Tensor) -> Estimate:
    """What is undefined counts as beyond both ends."""
    lower = values_R.nan_to_num(nan=-torch.inf).quantile(0.05, interpolation="lower")
    upper = values_R.nan_to_num(nan=torch.inf).quantile(0.95, interpolation="higher")
    found = (float(each) for each in (value, lower, upper))
    return Estimate(*(each if abs(each) < torch.inf else None for each in found))


def _divided(values: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return torch.where(by > 0, values / by, torch.nan)
