"""The statistics of a study: means with intervals, improvements over random, rank correlation."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

LEVEL: Final = 0.95
"""Of the confidence intervals."""


@final
@dataclass(frozen=True)
class Estimate:
    """A mean, or what follows from some, with its confidence interval.

    Attributes:
        mean: The estimate.
        low: Where the interval begins; None where one value tells nothing of it.
        high: Where it ends, likewise.
        count: From how many values; 0 where it is exact.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its interval by Student's t, which takes the values for normal and independent."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None, len(values))
    half = _quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def improvement(values: Sequence[float], reference: Sequence[float] | float) -> Estimate:
    """RI = 100 · (Acc_m − Acc_r) / Acc_r in percent (Yang et al. 2020, arXiv 1912.12522).

    The interval is Welch's, of the difference of both means; the mean below the line counts as exact.

    Args:
        values: Accuracies of a method.
        reference: Those of random choice, or their mean where it is known exactly.
    """
    known = isinstance(reference, (int, float))
    others = [float(reference)] if isinstance(reference, (int, float)) else list(reference)
    below = statistics.fmean(others)
    mean = 100 * (statistics.fmean(values) - below) / below
    if len(values) < 2 or (not known and len(others) < 2):
        return Estimate(mean, None, None, len(values))
    parts = [(statistics.variance(values) / len(values), len(values) - 1)]
    if not known:
        parts.append((statistics.variance(others) / len(others), len(others) - 1))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return Estimate(mean, mean, mean, len(values))
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    half = 100 * _quantile(freedom) * math.sqrt(total) / below
    return Estimate(mean, mean - half, mean + half, len(values))


def kendall(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's τ-b; None where one of both has no order."""
    from scipy.stats import kendalltau

    found = float(kendalltau(one, other).statistic) if len(one) > 1 else math.nan
    return found if math.isfinite(found) else None


def expected_best(values: Sequence[float], count: int) -> float:
    """Expected largest of `count` independent uniform draws."""
    ordered, total = sorted(values), len(values)
    return sum(
        value * ((index / total) ** count - ((index - 1) / total) ** count)
        for index, value in enumerate(ordered, start=1)
    )


def _quantile(freedom: float) -> float:
    from scipy.special import stdtrit  # what scipy.stats would call, after a second of imports

    return float(stdtrit(freedom, (1 + LEVEL) / 2))
