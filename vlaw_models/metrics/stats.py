"""Intervals and tests for success rates. Every rate this project reports comes with one of these (95 % unless said).

    one rate                        wilson             Wilson score interval
    two independent rates           newcombe           Newcombe 1998, hybrid score interval ("method 10")
    two rates on the same seeds     paired_difference  Newcombe 1998 for paired data, with its correlation correction
    is there any difference         mcnemar            exact two-sided McNemar test on the discordant pairs

No bootstrap and no normal approximation: these stay inside [-1, 1] and keep their coverage at 50 trials and rates
near 0 or 1. Differences are first minus second everywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vlaw_models.errors import VlawError

Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    diff: float
    low: float
    high: float


def wilson(k: int, n: int, z: float = Z95) -> Interval:
    """Wilson interval of the rate k/n. VlawError unless 0 <= k <= n and n >= 1."""
    _check_counts(k, n)
    rate, denominator = k / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # At 0 and n the formula equals the bound up to rounding; make it exact.
    return Interval(0.0 if k == 0 else max(0.0, centre - half), 1.0 if k == n else min(1.0, centre + half))


def newcombe(k1: int, n1: int, k2: int, n2: int, z: float = Z95) -> Difference:
    """k1/n1 - k2/n2 and its interval for independent samples (different seeds, different robots)."""
    first, second = wilson(k1, n1, z), wilson(k2, n2, z)
    return _combine(k1 / n1, first, k2 / n2, second, correlation=0.0)


def paired_difference(a: np.ndarray, b: np.ndarray, z: float = Z95) -> Difference:
    """Rate of `a` minus rate of `b` and its interval; a[i] and b[i] are outcomes of the same trial (N,) bool.

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
    return _combine(k_a / n, wilson(k_a, n, z), k_b / n, wilson(k_b, n, z), correlation=correlation)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value that `a` and `b` (N,) bool succeed equally often on the same trials; 1 where all
    agree."""
    _, only_a, only_b, _ = _pairs(a, b)
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, count) for count in range(min(only_a, only_b) + 1))
    # Integers until the last division: 2^discordant overflows a float above 1023 pairs.
    return min(1.0, 2 * tail / 2**discordant)


def _combine(rate1: float, first: Interval, rate2: float, second: Interval, *, correlation: float) -> Difference:
    down1, up1 = rate1 - first.low, first.high - rate1
    down2, up2 = rate2 - second.low, second.high - rate2
    below = down1**2 - 2 * correlation * down1 * up2 + up2**2
    above = up1**2 - 2 * correlation * up1 * down2 + down2**2
    diff = rate1 - rate2
    return Difference(diff, diff - math.sqrt(max(below, 0.0)), diff + math.sqrt(max(above, 0.0)))


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
