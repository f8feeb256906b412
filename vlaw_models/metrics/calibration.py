"""How far a judge's scores can be trusted: as verdicts at a threshold, as probabilities, and as an order.

    at a threshold     threshold_sweep                 confusion, precision, recall, false positives (VLAW, Table 3)
    as probabilities   calibration_curve               how often a score of .8 is a success
                       expected_calibration_error      Guo et al. 2017, Eq. 3 (from Naeini et al. 2015)
                       brier_score                     Brier 1950
    as an order        auroc                           Mann-Whitney: chance that a success outscores a failure

A verdict is "success" where score > threshold, strictly, as the loop keeps imagined rollouts. Labels are the robot's
own outcome. Choose a threshold on other trajectories than those it is reported on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import brier_score_loss, roc_auc_score

from vlaw_models.errors import VlawError
from vlaw_models.metrics.confusion import Confusion, confusion
from vlaw_models.metrics.inputs import count, numbers, outcomes, same_length
from vlaw_models.metrics.stats import wilson

WHERE = "judge calibration"


@dataclass(frozen=True)
class AtThreshold:
    """The judge at one threshold. `confusion` has the counts and every rate with its Wilson interval."""

    threshold: float
    confusion: Confusion

    def row(self) -> dict[str, Any]:
        """Flat, for a table: threshold, tp, fp, fn, tn, and each rate with _low and _high (None: no such trials)."""
        return {"threshold": self.threshold, **self.confusion.row()}


@dataclass(frozen=True)
class Bin:
    """Scores in [start, end), the last bin's end included: `successes` of `count`, as a rate with its Wilson
    interval."""

    start: float
    end: float
    count: int
    successes: int
    mean_score: float
    rate: float
    low: float
    high: float


def threshold_sweep(scores: np.ndarray, labels: np.ndarray, thresholds: Sequence[float]) -> list[AtThreshold]:
    """The judge's verdicts at each threshold, in the order given.

    `scores` (N,) float, any finite scale; `labels` (N,) bool; `thresholds` at least one, on the same scale. VlawError
    for empty input, NaN, unequal lengths, labels that are not booleans.
    """
    found, truth = _pairs(scores, labels)
    return [
        AtThreshold(float(cut), confusion(truth, found > cut, where=WHERE))
        for cut in numbers(thresholds, "thresholds", where=WHERE)
    ]


def calibration_curve(scores: np.ndarray, labels: np.ndarray, bins: int = 10) -> list[Bin]:
    """Success rate by score, in `bins` equal bins of [0, 1]; bins without scores are left out.

    `scores` (N,) probabilities, `labels` (N,) bool. VlawError as for threshold_sweep, and for scores outside [0, 1].
    """
    found, truth = _pairs(scores, labels, unit_range=True)
    edges = np.arange(count(bins, "bins", where=WHERE, least=1) + 1) / bins
    index = np.minimum(np.searchsorted(edges, found, side="right") - 1, bins - 1)
    curve = []
    for which in np.unique(index):
        inside = index == which
        n, k = int(inside.sum()), int(truth[inside].sum())
        curve.append(
            Bin(float(edges[which]), float(edges[which + 1]), n, k, float(found[inside].mean()), k / n, *wilson(k, n))
        )
    return curve


def expected_calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Mean over trajectories of |success rate - mean score| of the bin they are in, in [0, 1]; 0 is calibrated.

    Depends on the bins and is biased upwards where bins hold few trajectories: state both. VlawError as the curve.
    """
    curve = calibration_curve(scores, labels, bins)
    return sum(one.count * abs(one.rate - one.mean_score) for one in curve) / sum(one.count for one in curve)


def brier_score(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared difference of score (N,) in [0, 1] and outcome (N,) bool; 0 is perfect, .25 is always saying .5."""
    found, truth = _pairs(scores, labels, unit_range=True)
    return float(brier_score_loss(truth, found, pos_label=True))


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """P(score of a success > score of a failure) + P(equal) / 2 over all pairs; .5 is no order at all.

    `scores` (N,) float of any finite scale, `labels` (N,) bool. VlawError as threshold_sweep, and where all
    trajectories succeeded or all failed.
    """
    found, truth = _pairs(scores, labels)
    if truth.all() or not truth.any():
        raise VlawError(
            f"{truth.sum()} successes and {(~truth).sum()} failures",
            where=WHERE,
            remedy="Give at least one of each: without both there is no order to judge.",
        )
    return float(roc_auc_score(truth, found))


def _pairs(scores: np.ndarray, labels: np.ndarray, *, unit_range: bool = False) -> tuple[np.ndarray, np.ndarray]:
    found, truth = (
        numbers(scores, "scores", where=WHERE, unit_range=unit_range),
        outcomes(labels, "labels", where=WHERE),
    )
    same_length(scores=found, labels=truth, where=WHERE)
    return found, truth
