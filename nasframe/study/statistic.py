"""The statistics of a study: means with intervals, improvements over random, rank correlation."""

import math
import statistics
from collections.abc import Sequence

from nasframe.core.statistic import Estimate, difference, quantile


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its interval by Student's t, which takes the values for normal and independent."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None, len(values))
    half = quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def improvement(values: Sequence[float], reference: Sequence[float] | float) -> Estimate:
    """RI = 100 · (Acc_m − Acc_r) / Acc_r in percent (Yang et al. 2020, arXiv 1912.12522).

    The interval is Welch's, of the difference of both means; the mean below the line counts as exact.

    Args:
        values: Accuracies of a method.
        reference: Those of random choice, or their mean where it is known exactly.
    """
    below = float(reference) if isinstance(reference, (int, float)) else statistics.fmean(reference)
    found = difference(values, reference)
    low, high = (None if each is None else 100 * each / below for each in (found.low, found.high))
    return Estimate(100 * found.mean / below, low, high, len(values))


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
