"""How large a difference is, on one scale for rates and for numbers, and whether it is beyond chance.

    two rates                cohens_h        difference of arcsine roots
    two samples of numbers   superiority     chance that one of the second is larger than one of the first, as an h
                             shift           Hodges-Lehmann difference, its interval, and the Mann-Whitney test
    many tests at once       holm            adjusted p-values

Sizes read like Cohen's: 0.2 small, 0.5 medium, 0.8 large, and at most pi. First before, second after, everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlaw_models.metrics.inputs import error_rate, numbers

WHERE = "size of a difference"


class Shift(NamedTuple):
    """Second minus first: how far a sample lies from another."""

    diff: float
    low: float
    high: float
    p_value: float


def cohens_h(before: float, after: float) -> float:
    """Size of the difference of two rates in [0, 1]: in [0, pi]."""
    return abs(2 * math.asin(math.sqrt(after)) - 2 * math.asin(math.sqrt(before)))


def superiority(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> float:
    """Size of the difference of two samples of numbers (N,), (M,): in [0, pi].

    Twice Cohen's h of the chance that one of `after` is larger than one of `before` (ties count half) against 1/2. For
    two normal distributions that is Cohen's d within a tenth of it up to 1; unlike d it exists without a spread.
    VlawError for no values and for NaN.
    """
    from scipy.stats import mannwhitneyu

    first, second = numbers(before, "before", where=WHERE), numbers(after, "after", where=WHERE)
    larger = float(mannwhitneyu(second, first, method="asymptotic").statistic) / (len(first) * len(second))
    return 2 * cohens_h(0.5, min(max(larger, 0.0), 1.0))


def shift(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray, alpha: float = 0.05) -> Shift:
    """Hodges-Lehmann difference of two independent samples (N,), (M,), its (1 - alpha) interval, and the two-sided
    p-value of the Mann-Whitney test that the interval inverts (normal approximation, ties corrected in the test).

    Costs as much as there are pairs of unlike values: lengths of episodes have few. VlawError for no values and NaN.
    """
    from scipy.stats import mannwhitneyu, norm

    first, second = numbers(before, "before", where=WHERE), numbers(after, "after", where=WHERE)
    n, m = len(first), len(second)
    (values, counts), (others, other_counts) = (np.unique(found, return_counts=True) for found in (first, second))
    apart = np.subtract.outer(others, values).ravel()
    order = np.argsort(apart, kind="stable")
    apart, reached = apart[order], np.cumsum(np.multiply.outer(other_counts, counts).ravel()[order])

    def ranked(place: float) -> float:
        """The pairwise difference of that place among all n * m, from 1."""
        return float(apart[np.searchsorted(reached, min(max(place, 1), n * m))])

    tail = norm.ppf(1 - error_rate(alpha, where=WHERE) / 2) * math.sqrt(n * m * (n + m + 1) / 12)
    first_kept = math.floor(n * m / 2 - tail) + 1
    middle = (ranked(math.floor((n * m + 1) / 2)) + ranked(math.floor(n * m / 2) + 1)) / 2
    alike = len(values) == len(others) == 1 and values[0] == others[0]
    p_value = 1.0 if alike else float(mannwhitneyu(second, first, method="asymptotic").pvalue)
    return Shift(middle, ranked(first_kept), ranked(n * m + 1 - first_kept), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: all of them at most alpha keeps the chance of one false finding
    among them at most alpha.

    Not statsmodels': that collects garbage each time, which takes as long as there are objects, a ledger's among them.
    """
    order = np.argsort(p_values, kind="stable")
    weighed = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(weighed), 1.0)
    return [float(p) for p in adjusted]
