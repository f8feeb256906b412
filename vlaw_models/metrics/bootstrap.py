"""Bootstrap intervals of means over clips, and of the judge's order: for figures that are no rates.

Here: percentile bootstraps with a fixed seed, so that the same values give the same interval. Not here: rates, which
have exact-like intervals without resampling (stats.py), and policy ranks (ranking.py). Fréchet distances get none: a
resample has fewer different clips than the sample, which biases the distance upwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    rows = np.random.default_rng(SEED).integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.quantile(found[rows].mean(axis=1), [tail, 1 - tail])
    mean = float(found.mean())
    return Interval(min(float(low), mean), max(float(high), mean))


def auroc_interval(scores: np.ndarray, labels: np.ndarray, alpha: float = 0.05) -> Interval:
    """(1 - alpha) interval of calibration.auroc, successes and failures redrawn separately; holds the value.

    `scores` (N,) float, `labels` (N,) bool. Of width 0 where the order is perfect: then more clips are needed, not an
    interval. VlawError as auroc.
    """
    found, truth = numbers(scores, "scores", where=WHERE), outcomes(labels, "labels", where=WHERE)
    same_length(scores=found, labels=truth, where=WHERE)
    tail, value = error_rate(alpha, where=WHERE) / 2, auroc(found, truth)
    rng = np.random.default_rng(SEED)
    sides = [rng.choice(found[truth == side], size=(RESAMPLES, int((truth == side).sum()))) for side in (True, False)]
    drawn, sorted_labels = np.concatenate(sides, axis=1), np.sort(truth)[::-1]
    low, high = np.quantile([auroc(row, sorted_labels) for row in drawn], [tail, 1 - tail])
    return Interval(min(float(low), value), max(float(high), value))
