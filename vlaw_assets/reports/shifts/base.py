"""One shift between two sides, and how the shifts that are statistics are made.

    rates     two rates: difference, 95 % interval, test, Cohen's h. Of the same trials: Newcombe's paired interval and
              McNemar's exact test; else Newcombe's interval and Fisher's exact test
    lengths   two samples of whole numbers: medians, Hodges-Lehmann difference, Mann-Whitney test
    means     two samples of numbers: means, t interval and test (paired on shared items, else Welch's)
    single    two numbers without a sample behind them: a difference and a size, no interval and no test
    changed   what is certain: somebody or something changed it

The size of numbers is `effects.superiority`, of single numbers |ln(b / a)|: ln 2 = 0.69 where one is twice the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlaw_models.metrics import effects, stats

LARGEST = math.pi
"""No size is above it: Cohen's h of 0 against 1."""
WHOLE = "success: all"
"""What the shift of success over all tasks is called."""
MORE, LESS = "more", "less"
"""Which way is better."""


@dataclass(frozen=True)
class Shift:
    """What differs, from side a to side b."""

    what: str
    kind: str
    """success, length, data, judge, world_model, loss; or one of CHANGES."""
    assets: tuple[str, ...] = ()
    """Stages of which a change may directly make this shift; of a change, the stage that was changed."""
    of: tuple[str, str] = ("", "")
    """Names of the two artifacts."""
    a: Any = None
    b: Any = None
    counts_a: tuple[int, ...] = ()
    """(successes, of) of a rate, else (number of values,)."""
    counts_b: tuple[int, ...] = ()
    added: int | None = None
    """Of a number of episodes: how many of b's are not a's."""
    removed: int | None = None
    """How many of a's are not b's."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    """Of the interval and the test; '' without."""
    p_value: float | None = None
    size: float | None = None
    better: str = ""
    """MORE or LESS; '' where neither is."""
    watch: str = ""
    """A command that shows episodes of it."""

    @property
    def is_change(self) -> bool:
        return self.kind in CHANGES

    @property
    def tested(self) -> bool:
        return self.p_value is not None


CHANGES = ("quarantine", "labels", "weights", "recipe", "code", "without effect", "iteration")
"""Kinds of what is certain, in the order in which they are listed. What was changed in the making of something whose
content is the same all the same is without effect."""


def rates(what: str, a: tuple[int, int], b: tuple[int, int], **more: Any) -> Shift | None:
    """Two rates (successes, trials) of independent trials; None where one has no trials."""
    if not a[1] or not b[1]:
        return None
    from scipy.stats import fisher_exact

    found = stats.newcombe(*b, *a)
    p_value = fisher_exact([[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]).pvalue
    return _rates(what, a, b, found, float(p_value), "Newcombe; Fisher's exact test", more)


def paired_rates(what: str, a: Mapping[Any, bool], b: Mapping[Any, bool], **more: Any) -> Shift | None:
    """Two rates over the trials that both have, by their keys; None where they share none."""
    import numpy as np

    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    first, second = (np.array([side[key] for key in shared], bool) for side in (a, b))
    found, p_value = stats.paired_difference(second, first), stats.mcnemar(second, first)
    counts = [(int(side.sum()), len(shared)) for side in (first, second)]
    return _rates(what, counts[0], counts[1], found, p_value, "Newcombe, paired; McNemar's exact test", more)


def _rates(
    what: str,
    a: tuple[int, int],
    b: tuple[int, int],
    found: stats.Difference,
    p_value: float,
    method: str,
    more: Mapping[str, Any],
) -> Shift:
    rate_a, rate_b = a[0] / a[1], b[0] / b[1]
    return Shift(
        what,
        a=rate_a,
        b=rate_b,
        counts_a=a,
        counts_b=b,
        difference=found.diff,
        low=found.low,
        high=found.high,
        method=method,
        p_value=p_value,
        size=effects.cohens_h(rate_a, rate_b),
        **more,
    )


def lengths(what: str, a: Sequence[float], b: Sequence[float], **more: Any) -> Shift | None:
    """Two samples of lengths; None where one is empty."""
    if not len(a) or not len(b):
        return None
    import numpy as np

    found = effects.shift(a, b)
    return Shift(
        what,
        a=float(np.median(a)),
        b=float(np.median(b)),
        counts_a=(len(a),),
        counts_b=(len(b),),
        difference=found.diff,
        low=found.low,
        high=found.high,
        method="Hodges-Lehmann; Mann-Whitney test",
        p_value=found.p_value,
        size=effects.superiority(a, b),
        **more,
    )


def means(what: str, a: Mapping[str, float], b: Mapping[str, float], **more: Any) -> Shift | None:
    """Two samples of numbers by item: those of the shared items where all are shared, else all as independent ones.

    None where one has fewer than two.
    """
    import numpy as np
    from scipy.stats import ttest_ind, ttest_rel

    if min(len(a), len(b)) < 2:
        return None
    names = sorted(a)
    paired = a.keys() == b.keys()
    first, second = np.array([a[key] for key in names]), np.array([b[key] for key in (names if paired else sorted(b))])
    difference, spread = float(second.mean() - first.mean()), np.ptp(second - first) if paired else 1.0
    if paired and not spread:  # the same difference everywhere: no spread to test it against
        low = high = difference
        p_value = 1.0 if not difference else 0.0
    else:
        test = ttest_rel(second, first) if paired else ttest_ind(second, first, equal_var=False)
        interval = test.confidence_interval(0.95)
        low, high, p_value = float(interval.low), float(interval.high), float(test.pvalue)
        if math.isnan(p_value):  # neither side varies
            low, high, p_value = difference, difference, 1.0 if not difference else 0.0
    return Shift(
        what,
        a=float(first.mean()),
        b=float(second.mean()),
        counts_a=(len(a),),
        counts_b=(len(b),),
        difference=difference,
        low=low,
        high=high,
        method="paired t" if paired else "Welch's t",
        p_value=p_value,
        size=effects.superiority(first, second),
        **more,
    )


def single(what: str, a: float, b: float, **more: Any) -> Shift:
    """Two numbers without an interval."""
    return Shift(what, a=a, b=b, difference=b - a, size=ratio(a, b), **more)


def ratio(a: float, b: float) -> float:
    """|ln(b / a)|, at most pi; of numbers that are not both above 0 their distance by the larger one, at most 2."""
    if a == b:
        return 0.0
    if a > 0 and b > 0:
        return min(abs(math.log(b / a)), LARGEST)
    return LARGEST if 0 in (a, b) else abs(b - a) / max(abs(a), abs(b))
