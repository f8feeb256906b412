"""Intervals and tests for success rates. Every rate this project reports comes with one of these (95 % unless said).

    one rate                        wilson             Wilson score interval
    two independent rates           newcombe           Newcombe 1998, hybrid score interval ("method 10")
    two rates on the same seeds     paired_difference  Newcombe 1998 for paired data, with its correlation correction
    is there any difference         mcnemar            exact two-sided McNemar test on the discordant pairs
    the mean of several seeds       t_interval         Student's t, for how much training itself varies

The first two and the test are statsmodels' (it has no interval for paired rates).

Those of rates use no bootstrap and no normal approximation: they stay inside [-1, 1] and keep their coverage at 50
trials and rates near 0 or 1. The one over seeds takes the seeds' numbers as normal and may leave that range.
Differences are first minus second everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from vlaw_models.errors import VlawError


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    diff: float
    low: float
    high: float


def wilson(k: int, n: int, alpha: float = 0.05) -> Interval:
    """(1 - alpha) Wilson interval of the rate k/n. VlawError unless 0 <= k <= n and n >= 1."""
    _check_counts(k, n)
    low, high = proportion_confint(k, n, alpha=alpha, method="wilson")
    # At 0 and n the formula equals the bound up to rounding; make it exact.
    return Interval(float(low) if k else 0.0, float(high) if k < n else 1.0)


def newcombe(k1: int, n1: int, k2: int, n2: int, alpha: float = 0.05) -> Difference:
    """k1/n1 - k2/n2 and its (1 - alpha) interval for independent samples (different seeds, different robots)."""
    _check_counts(k1, n1)
    _check_counts(k2, n2)
    low, high = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", compare="diff", alpha=alpha)
    return Difference(k1 / n1 - k2 / n2, float(low), float(high))


def paired_difference(a: np.ndarray, b: np.ndarray, alpha: float = 0.05) -> Difference:
    """Rate of `a` minus rate of `b`, (1 - alpha) interval; a[i] and b[i] are outcomes of the same trial (N,) bool.

    Newcombe's hybrid score interval for paired proportions: both Wilson intervals, combined with the correlation of
    the two outcomes (its numerator shrunk by n/2 where positive, as Newcombe recommends). The more often the same
    trials succeed under both, the narrower the interval. VlawError for unequal lengths or no trials.
    """
    both, only_a, only_b, neither = _pairs(a, b)
    n = both + only_a + only_b + neither
    k_a, k_b = both + only_a, both + only_b
    margins = k_a * (n - k_a) * k_b * (n - k_b)
    product = both * neither - only_a * only_b
    shrunk = max(product - n / 2, 0.0) if product > 0 else float(product)
    correlation = shrunk / math.sqrt(margins) if margins else 0.0
    first, second = wilson(k_a, n, alpha), wilson(k_b, n, alpha)
    down_a, up_a = k_a / n - first.low, first.high - k_a / n
    down_b, up_b = k_b / n - second.low, second.high - k_b / n
    below = down_a**2 - 2 * correlation * down_a * up_b + up_b**2
    above = up_a**2 - 2 * correlation * up_a * down_b + down_b**2
    diff = k_a / n - k_b / n
    return Difference(diff, diff - math.sqrt(max(below, 0.0)), diff + math.sqrt(max(above, 0.0)))


def t_interval(values: Sequence[float] | np.ndarray, alpha: float = 0.05) -> Difference:
    """Mean of `values` (N,), one per seed, and its (1 - alpha) Student t interval with N - 1 degrees of freedom.

    Equal values give an interval without width. VlawError for fewer than two values and for what is not finite.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) < 2 or not np.isfinite(found).all():
        raise VlawError(
            f"no interval over {found.tolist()}",
            where="Student t interval",
            remedy="Give one finite number per seed, of at least two seeds: one does not say how much seeds differ.",
        )
    mean = float(found.mean())
    half = float(stats.t.ppf(1 - alpha / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return Difference(mean, mean - half, mean + half)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value that `a` and `b` (N,) bool succeed equally often on the same trials; 1 where all
    agree."""
    both, only_a, only_b, neither = _pairs(a, b)
    return float(contingency_tables.mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue)


def _pairs(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int, int]:
    first, second = np.asarray(a), np.asarray(b)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise VlawError(
            f"paired outcomes of shapes {first.shape} and {second.shape}",
            where="paired comparison",
            remedy="Give two equally long lists of outcomes of the same trials, at least one.",
        )
    for values in (first, second):
        if not np.isin(values, (0, 1)).all():
            raise VlawError(
                "an outcome is neither 0 nor 1",
                where="paired comparison",
                remedy="Give success as booleans; leave out trials that nobody judged.",
            )
    first, second = first.astype(bool), second.astype(bool)
    return (
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((~first & second).sum()),
        int((~first & ~second).sum()),
    )


def _check_counts(k: int, n: int) -> None:
    if n < 1 or not 0 <= k <= n:
        raise VlawError(
            f"{k} successes of {n} trials",
            where="success rate",
            remedy="Give at least one trial, and no more successes than trials.",
        )
