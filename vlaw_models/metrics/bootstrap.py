"""Bootstrap intervals of means over clips, and of the judge's order: for figures that are no rates.

Percentile bootstraps (scipy's) with a fixed seed, so that the same values give the same interval. Fréchet distances
get none: a resample has fewer different clips than the sample, which biases the distance upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import bootstrap, mannwhitneyu

from vlaw_models.metrics.calibration import auroc
from vlaw_models.metrics.inputs import error_rate, numbers, outcomes, same_length
from vlaw_models.metrics.stats import Interval

WHERE = "bootstrap interval"
RESAMPLES, SEED = 2000, 0


def mean_interval(values: Sequence[float] | np.ndarray, alpha: float = 0.05) -> Interval | None:
    """(1 - alpha) interval of the mean of independent values (N,); holds the mean. None for one value.

    Too narrow for a handful of values, as every bootstrap. VlawError for none and for NaN.
    """
    found, tail = numbers(values, "values", where=WHERE), error_rate(alpha, where=WHERE) / 2
    if len(found) < 2:
        return None
    drawn = _resampled((found,), np.mean, tail)
    mean = float(found.mean())
    return Interval(min(drawn.low, mean), max(drawn.high, mean))


def auroc_interval(scores: np.ndarray, labels: np.ndarray, alpha: float = 0.05) -> Interval | None:
    """(1 - alpha) interval of calibration.auroc, successes and failures redrawn separately; holds the value. None for
    one success, or one failure.

    `scores` (N,) float, `labels` (N,) bool. Of width 0 where the order is perfect: then more clips are needed, not an
    interval. VlawError as auroc.
    """
    found, truth = numbers(scores, "scores", where=WHERE), outcomes(labels, "labels", where=WHERE)
    same_length(scores=found, labels=truth, where=WHERE)
    tail, value = error_rate(alpha, where=WHERE) / 2, auroc(found, truth)
    if min(truth.sum(), (~truth).sum()) < 2:
        return None
    drawn = _resampled((found[truth], found[~truth]), _outscored, tail)
    return Interval(min(drawn.low, value), max(drawn.high, value))


def _outscored(successes: np.ndarray, failures: np.ndarray, axis: int = -1) -> np.ndarray:
    """The area under the curve is the Mann-Whitney statistic over the number of pairs, here of many resamples."""
    pairs = successes.shape[axis] * failures.shape[axis]
    return mannwhitneyu(successes, failures, axis=axis, method="asymptotic").statistic / pairs


def _resampled(samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray], tail: float) -> Interval:
    found = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * tail,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))
