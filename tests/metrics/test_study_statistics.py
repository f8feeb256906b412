"""The statistics of a study: a judge's calibration, policy ranks, interaction events."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vlaw_models.errors import VlawError
from vlaw_models.metrics import ranking
from vlaw_models.metrics.calibration import (
    auroc,
    brier_score,
    calibration_curve,
    expected_calibration_error,
    threshold_sweep,
)
from vlaw_models.metrics.confusion import Confusion
from vlaw_models.metrics.events import (
    event_confusion,
    false_positive_difference,
    paired_false_positive_difference,
)
from vlaw_models.metrics.stats import newcombe, paired_difference, wilson

YES, NO = True, False
NAN = float("nan")


# A judge's calibration

SCORES = [0.1, 0.4, 0.35, 0.8, 0.8, 0.9, 1.0, 0.0]
LABELS = [NO, NO, YES, YES, NO, YES, YES, NO]


def test_threshold_sweep_by_hand():
    low, strict, high = threshold_sweep(SCORES, LABELS, [0.3, 0.8, 1.0])
    assert [(r.confusion.tp, r.confusion.fp, r.confusion.fn, r.confusion.tn) for r in (low, strict, high)] == [
        (4, 2, 0, 2),
        (2, 0, 2, 4),
        (0, 0, 4, 4),
    ]
    row = low.row()
    assert row["threshold"] == 0.3
    assert (row["precision"], row["precision_low"], row["precision_high"]) == (4 / 6, *wilson(4, 6))
    assert (row["recall"], row["recall_low"], row["recall_high"]) == (1.0, *wilson(4, 4))
    assert (row["false_positive_rate"], row["false_positive_rate_low"]) == (0.5, wilson(2, 4).low)
    assert strict.confusion.false_negative_rate == (2, 4, 0.5, *wilson(2, 4))
    assert high.confusion.precision is None
    assert high.row()["precision_low"] is None


def test_calibration_curve_by_hand():
    curve = calibration_curve(SCORES, LABELS, bins=5)
    assert [(b.start, b.end, b.count, b.successes) for b in curve] == [
        (0.0, 0.2, 2, 0),
        (0.2, 0.4, 1, 1),
        (0.4, 0.6, 1, 0),
        (0.8, 1.0, 4, 3),
    ]
    last = curve[-1]
    assert (last.mean_score, last.rate, (last.low, last.high)) == (pytest.approx(0.875), 0.75, wilson(3, 4))
    expected = (2 * 0.05 + 1 * 0.65 + 1 * 0.4 + 4 * 0.125) / 8
    assert expected_calibration_error(SCORES, LABELS, bins=5) == pytest.approx(expected)
    assert [b.start for b in calibration_curve([0.3, 0.7], [YES, NO])] == [0.3, 0.7]


def test_calibration_error_of_a_calibrated_and_an_overconfident_judge():
    generator = np.random.default_rng(0)
    truth = generator.random(20_000)
    labels = generator.random(20_000) < truth
    assert expected_calibration_error(truth, labels) < 0.015
    assert expected_calibration_error((truth > 0.5).astype(float), labels) == pytest.approx(0.25, abs=0.01)


def test_brier_score_by_hand():
    assert brier_score([0.9, 0.2, 0.5], [YES, NO, NO]) == pytest.approx((0.01 + 0.04 + 0.25) / 3)
    assert brier_score([1, 0], [NO, YES]) == 1.0


def test_auroc_counts_pairs_with_ties_as_half():
    wins = sum(
        (p > n) + (p == n) / 2
        for p, lp in zip(SCORES, LABELS, strict=True)
        if lp
        for n, ln in zip(SCORES, LABELS, strict=True)
        if not ln
    )
    assert auroc(SCORES, LABELS) == wins / 16 == 13.5 / 16
    assert auroc([3, 3, 3], [YES, NO, NO]) == 0.5
    assert auroc([-5.0, 7.0], [NO, YES]) == 1.0
    assert auroc(SCORES, np.logical_not(LABELS)) == 1 - 13.5 / 16


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: threshold_sweep([], [], [0.5]), "scores is empty"),
        (lambda: threshold_sweep([0.5], [YES], []), "thresholds is empty"),
        (lambda: threshold_sweep([0.5], [YES], [NAN]), "thresholds has 1 NaN"),
        (lambda: threshold_sweep([NAN, 0.1], [YES, NO], [0.5]), "scores has 1 NaN"),
        (lambda: threshold_sweep([0.5, 0.1], [YES], [0.5]), "scores 2, labels 1"),
        (lambda: threshold_sweep([0.5], [1], [0.5]), "labels is of int64"),
        (lambda: threshold_sweep([[0.5]], [YES], [0.5]), "shape"),
        (lambda: threshold_sweep(["high"], [YES], [0.5]), "not of numbers"),
        (lambda: calibration_curve([1.2], [YES]), "scores lies in"),
        (lambda: calibration_curve([0.2], [YES], bins=0), "bins is 0"),
        (lambda: brier_score([-0.1], [YES]), "scores lies in"),
        (lambda: auroc([0.1, 0.2], [YES, YES]), "2 successes and 0 failures"),
    ],
)
def test_scores_that_cannot_be_judged(call, words):
    with pytest.raises(VlawError, match=words) as error:
        call()
    assert error.value.where == "judge calibration"


# Policy ranks

IMAGINED, REAL = [0.2, 0.5, 0.5, 0.9], [0.1, 0.3, 0.6, 0.5]


def test_correlations_by_hand():
    x, y = np.array(IMAGINED) - 0.525, np.array(REAL) - 0.375
    assert ranking.pearson(IMAGINED, REAL) == pytest.approx((x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum()))
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 4, 3: covariance 3, variances 4.5 and 5.
    assert ranking.spearman(IMAGINED, REAL) == pytest.approx(3 / math.sqrt(4.5 * 5))
    # Pairs: 4 concordant, 1 discordant, 1 tied in the world model.
    assert ranking.kendall(IMAGINED, REAL) == pytest.approx(3 / math.sqrt(5 * 6))
    assert ranking.spearman([1, 2, 3], [1, 4, 9]) == 1.0
    assert ranking.kendall([1, 2, 3], [9, 4, 1]) == -1.0
    assert ranking.pearson([0.1, 0.2], [0.7, 0.1]) == pytest.approx(-1.0)


def test_mmrv_by_hand():
    # 1-3 in wrong order (.1 apart in reality), 1-2 tied in the world model (.3): counts against the better one, 2.
    assert ranking.mmrv(IMAGINED, REAL) == pytest.approx((0 + 0 + 0.3 + 0.1) / 4)
    assert ranking.mmrv(REAL, REAL) == 0
    assert ranking.mmrv([0.9, 0.5, 0.1], [0.1, 0.5, 0.9]) == pytest.approx((0.8 + 0.4 + 0.8) / 3)
    assert ranking.mmrv([0.5, 0.5], [0.2, 0.8]) == pytest.approx(0.3)


@pytest.mark.parametrize("measure", sorted(ranking.MEASURES))
def test_bootstraps_repeat_with_their_generator_and_hold_the_value(measure):
    generator = np.random.default_rng(3)
    rates = np.linspace(0.1, 0.9, 8)
    imagined = [generator.random(50) < rate for rate in 0.8 * rates]
    real = [generator.random(50) < rate for rate in rates]
    means = [np.array([trials.mean() for trials in side]) for side in (imagined, real)]
    for draw, arguments in ((ranking.over_policies, means), (ranking.over_trials, (imagined, real))):
        one, again, other = (
            draw(measure, *arguments, np.random.default_rng(seed), resamples=300) for seed in (0, 0, 1)
        )
        assert one == again
        assert measure in {"kendall", "spearman"} or one[1:3] != other[1:3], "another seed draws otherwise"
        assert one.value == getattr(ranking, measure)(*means)
        assert one.low < one.high
        assert one.low <= one.value <= one.high
        narrower = draw(measure, *arguments, np.random.default_rng(0), resamples=300, alpha=0.5)
        assert narrower.high - narrower.low < one.high - one.low


def test_more_trials_narrow_the_ranks():
    def width(n: int) -> float:
        sides = [[np.arange(n) < round(rate * n) for rate in (0.2, 0.4, 0.6)] for _ in range(2)]
        found = ranking.over_trials("pearson", *sides, np.random.default_rng(0), resamples=500)
        assert found.value == pytest.approx(1)
        return found.high - found.low

    assert width(1000) < width(10) / 3


def test_resamples_without_an_answer_are_counted():
    found = ranking.over_policies("spearman", [0.1, 0.5, 0.9], [0.1, 0.2, 0.3], np.random.default_rng(0), resamples=900)
    assert found.undefined / 900 == pytest.approx(1 / 9, abs=0.04)
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ranking.pearson([], []), "world_model is empty"),
        (lambda: ranking.pearson([0.1], [0.2]), "fewer than 2"),
        (lambda: ranking.spearman([0.1, 0.2], [0.2, NAN]), "real has 1 NaN"),
        (lambda: ranking.kendall([0.1, 0.2], [0.2, 0.3, 0.4]), "world_model 2, real 3"),
        (lambda: ranking.kendall([0.1, 0.1], [0.2, 0.3]), "in the world model"),
        (lambda: ranking.pearson([0.1, 0.2], [0.3, 0.3]), "in reality"),
        (lambda: ranking.mmrv([0.1], [0.3]), "fewer than 2"),
        (lambda: ranking.over_policies("rho", [0.1, 0.2], [0.1, 0.2], np.random.default_rng(0)), "no measure 'rho'"),
        (lambda: ranking.over_policies("mmrv", [0.1, 0.2], [0.1, 0.2], np.random.default_rng(0)), "fewer than 3"),
        (lambda: ranking.over_policies("mmrv", IMAGINED, REAL, np.random.default_rng(0), alpha=1), "alpha is 1"),
        (
            lambda: ranking.over_policies("mmrv", IMAGINED, REAL, np.random.default_rng(0), resamples=0),
            "resamples is 0",
        ),
        (
            lambda: ranking.over_policies(
                "pearson", [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], np.random.default_rng(0), alpha=2
            ),
            "alpha",
        ),
        (
            lambda: ranking.over_trials("mmrv", [[YES]], [[YES], [NO]], np.random.default_rng(0)),
            "world_model 1, real 2",
        ),
        (
            lambda: ranking.over_trials("mmrv", [[YES], []], [[YES], [NO]], np.random.default_rng(0)),
            r"world_model\[1\] is empty",
        ),
    ],
)
def test_policies_that_cannot_be_ranked(call, words):
    with pytest.raises(VlawError, match=words) as error:
        call()
    assert error.value.where == "policy ranks"


# Interaction events


def test_event_confusion_per_task_and_over_all():
    real = [YES, NO, NO, YES, NO, NO, NO]
    judged = [YES, YES, NO, NO, NO, YES, NO]
    tasks = ["stack", "stack", "stack", "scoop", "scoop", "scoop", "scoop"]
    found = event_confusion(real, judged, tasks)
    assert found == {"stack": Confusion(1, 1, 0, 1), "scoop": Confusion(0, 1, 1, 2), "all": Confusion(1, 2, 1, 3)}
    assert list(found) == ["stack", "scoop", "all"]
    assert found["all"].trials == 7
    assert found["all"].false_positive_rate == (2, 5, 0.4, *wilson(2, 5))
    assert found["scoop"].false_negative_rate == (1, 1, 1.0, *wilson(1, 1))
    assert found["stack"].false_negative_rate.value == 0
    assert event_confusion([NO], [NO], ["draw"])["draw"].recall is None


def test_difference_of_false_positive_rates():
    expert_only, rollouts = Confusion(40, 30, 10, 70), Confusion(45, 9, 5, 111)
    assert false_positive_difference(expert_only, rollouts) == newcombe(30, 100, 9, 120)
    real = np.array([NO] * 100 + [YES] * 20)
    a, b = np.arange(120) < 30, (np.arange(120) < 9) | (np.arange(120) >= 100)
    paired = paired_false_positive_difference(real, a, b)
    assert paired == paired_difference(a[:100], b[:100])
    assert paired.diff == pytest.approx(0.21)
    independent = newcombe(30, 100, 9, 100)
    assert paired.high - paired.low < independent.high - independent.low


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: event_confusion([], [], []), "real is empty"),
        (lambda: event_confusion([YES], [YES, NO], ["stack"]), "real 1, judged 2"),
        (lambda: event_confusion([YES], [YES], []), "real 1, tasks 0"),
        (lambda: event_confusion([YES], [0.7], ["stack"]), "judged is of float64"),
        (lambda: event_confusion([None], [YES], ["stack"]), "real is of object"),
        (lambda: event_confusion([YES], [YES], ["all"]), "called 'all'"),
        (lambda: false_positive_difference(Confusion(1, 0, 1, 0), Confusion(1, 1, 1, 1)), "no failure among the first"),
        (lambda: paired_false_positive_difference([YES], [YES], [NO]), "no failure among the episodes"),
    ],
)
def test_replays_that_cannot_be_compared(call, words):
    with pytest.raises(VlawError, match=words) as error:
        call()
    assert error.value.where == "interaction events"


@pytest.mark.parametrize("counts", [(-1, 0, 0, 0), (0, 1.5, 0, 0), (0, 0, NAN, 0), (0, 0, 0, YES)])
def test_counts_of_a_confusion_are_counts(counts):
    with pytest.raises(VlawError, match="remedy"):
        Confusion(*counts)
