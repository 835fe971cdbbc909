"""Estimates with confidence intervals."""

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


def difference(values: Sequence[float], others: Sequence[float] | float) -> Estimate:
    """By how much the mean of `values` is above that of `others`, with Welch's interval.

    Args:
        values: Taken for independent and normal, as the others.
        others: A number counts as a mean that is known exactly.
    """
    known = isinstance(others, (int, float))
    against = [float(others)] if isinstance(others, (int, float)) else list(others)
    mean = statistics.fmean(values) - statistics.fmean(against)
    if len(values) < 2 or (not known and len(against) < 2):
        return Estimate(mean, None, None, len(values))
    parts = [(statistics.variance(values) / len(values), len(values) - 1)]
    if not known:
        parts.append((statistics.variance(against) / len(against), len(against) - 1))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return Estimate(mean, mean, mean, len(values))
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    half = quantile(freedom) * math.sqrt(total)
    return Estimate(mean, mean - half, mean + half, len(values))


def quantile(freedom: float) -> float:
    """How many standard errors the interval goes to each side, by Student's t."""
    from scipy.special import stdtrit  # what scipy.stats would call, after a second of imports

    return float(stdtrit(freedom, (1 + LEVEL) / 2))
