"""The statistics of a study: sequential tests, a judge's calibration, policy ranks, interaction events."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

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
from vlaw_models.metrics.sequential import (
    confidence_sequence,
    log_e_value,
    paired_sequential,
    paired_stream,
    rate_sequential,
    rate_stream,
    stopping_bounds,
    unpaired_stream,
)
from vlaw_models.metrics.stats import newcombe, paired_difference, wilson

YES, NO = True, False
NAN = float("nan")


# Sequential tests


def stops(a: np.ndarray, b: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Streams (S, N) of two policies, looked at after every trial: first stop (N where none) and who is named."""
    wins, losses = np.cumsum(a & ~b, axis=1), np.cumsum(b & ~a, axis=1)
    upper, lower = stopping_bounds(a.shape[1], 0.5, alpha)
    up, down = wins >= upper[wins + losses], wins <= lower[wins + losses]
    stopped = up | down
    first = np.where(stopped.any(axis=1), stopped.argmax(axis=1), a.shape[1])
    row, at = np.arange(len(a)), np.minimum(first, a.shape[1] - 1)
    return first, np.where(up[row, at], 1, np.where(down[row, at], -1, 0))


def streams(rate: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((2000, 200)) < rate


def test_e_value_is_its_exact_sum_and_its_integral():
    for wins, losses in itertools.product(range(12), repeat=2):
        n = wins + losses
        exact = Fraction(sum(math.comb(n + 1, k) for k in range(wins + 1)), (n + 1) * math.comb(n, wins))
        assert math.exp(log_e_value(wins, losses, 0.5)) == pytest.approx(float(exact), rel=1e-12)
    p = (np.arange(200_000) + 0.5) / 200_000 * 0.7 + 0.3
    for s, f in ((0, 0), (9, 4), (2, 13)):
        integral = np.mean((p / 0.3) ** s * ((1 - p) / 0.7) ** f)
        assert math.exp(log_e_value(s, f, 0.3)) == pytest.approx(integral, rel=1e-6)
    assert math.isfinite(log_e_value(20_000, 3, 0.5))


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_e_value_is_a_fair_game_at_the_rate_and_a_losing_one_below_it(rate):
    for s, f in itertools.product(range(15), repeat=2):
        now, up, down = (math.exp(log_e_value(*c, rate)) for c in ((s, f), (s + 1, f), (s, f + 1)))
        assert rate * up + (1 - rate) * down == pytest.approx(now, rel=1e-10)
        assert 0.8 * rate * up + (1 - 0.8 * rate) * down < now


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_looking_after_every_trial_errs_at_most_alpha_of_the_time(alpha):
    a, b = streams(0.5, seed=1), streams(0.5, seed=2)
    _, named = stops(a, b, alpha)
    assert 0 < (named != 0).mean() <= alpha
    wins, differing = np.cumsum(a & ~b, axis=1), np.cumsum(a != b, axis=1)
    z = {0.05: 1.96, 0.2: 1.2816}[alpha]
    peeked = (np.abs(2 * wins - differing) > z * np.sqrt(np.maximum(differing, 1))).any(axis=1)
    assert peeked.mean() > 3 * alpha, "the same looks with a fixed-sample test: what is being avoided"


def test_errors_counted_exactly_over_every_stream_of_400_differing_trials():
    upper, lower = stopping_bounds(400, 0.5, 0.05)
    going, erred = np.array([1.0]), 0.0
    for m in range(1, 401):
        going = np.convolve(going, [0.5, 0.5])
        out = (np.arange(m + 1) >= upper[m]) | (np.arange(m + 1) <= lower[m])
        erred += going[out].sum()
        going[out] = 0
    assert 0.01 < erred <= 0.05
    assert going.sum() + erred == pytest.approx(1)


def test_a_clear_difference_stops_early_and_a_worse_policy_is_not_named():
    first, named = stops(streams(0.8, seed=3), streams(0.4, seed=4), 0.05)
    assert (named == 1).mean() > 0.99
    assert (named == -1).mean() <= 0.025
    assert np.median(first) < 60
    _, slight = stops(streams(0.5, seed=5), streams(0.52, seed=6), 0.05)
    assert (slight == 1).mean() <= 0.025


def test_streams_stop_where_counts_decide():
    a, b = streams(0.7, seed=7)[:20], streams(0.4, seed=8)[:20]
    first, named = stops(a, b, 0.05)
    assert (named == 1).any()
    for x, y, stop, who in zip(a, b, first, named, strict=True):
        found = paired_stream(x, y)
        assert found.trials == min(stop + 1, 200)
        assert found.state == {1: "a better", -1: "b better", 0: "undecided"}[who]
        until = slice(found.trials)
        assert (found.wins, found.losses) == ((x & ~y)[until].sum(), (y & ~x)[until].sum())
        assert unpaired_stream(x, np.concatenate([y, y])) == found
        swapped = paired_stream(y, x)
        assert (swapped.wins, swapped.losses, swapped.e_value) == (found.losses, found.wins, found.e_value)
        assert swapped.low == pytest.approx(1 - found.high)


def test_eight_wins_and_no_loss_decide():
    seven, eight = paired_sequential(7, 0), paired_sequential(8, 0, trials=30)
    assert seven.e_value == pytest.approx(255 / 8)
    assert eight.e_value == pytest.approx(511 / 9)
    assert eight.threshold == pytest.approx(40)
    assert (seven.state, eight.state, paired_sequential(0, 8).state) == ("undecided", "a better", "b better")
    assert (eight.trials, paired_sequential(0, 0).e_value) == (30, 1.0)
    assert (paired_sequential(0, 0).low, paired_sequential(0, 0).high) == (0, 1)
    assert math.isfinite(paired_sequential(9000, 0).e_value)


def test_the_interval_leaves_the_rate_out_exactly_where_it_is_decided():
    states = set()
    for s, f, rate in itertools.product(range(0, 40, 4), range(0, 40, 4), (0.3, 0.5, 0.8)):
        found = rate_sequential(s, f, rate)
        states.add(found.state)
        expected = "a better" if found.low > rate else "b better" if found.high < rate else "undecided"
        assert found.state == expected
        if s + f:
            assert confidence_sequence(s, s + f) == (found.low, found.high)
            fixed = wilson(s, s + f)
            assert found.low < s / (s + f) + 1e-9
            assert found.high - found.low > fixed.high - fixed.low, "the price of looking at any time"
    assert len(states) == 3


def test_confidence_sequence_holds_at_all_looks_at_once():
    truth = 0.35
    seen, n = np.cumsum(streams(truth, seed=9), axis=1), np.arange(1, 201)
    upper, lower = stopping_bounds(200, truth, 0.1)
    left_out = ((seen >= upper[n]) | (seen <= lower[n])).any(axis=1).mean()
    assert 0.01 < left_out <= 0.1
    wilson_90 = np.stack(proportion_confint(np.minimum(np.arange(201), n[:, None]), n[:, None], 0.1, "wilson"), axis=-1)
    low, high = (wilson_90[np.arange(200)[None], seen, side] for side in (0, 1))
    assert ((low > truth) | (high < truth)).any(axis=1).mean() > 0.3
    low, high = confidence_sequence(350, 1000)
    assert 0.28 < low < truth < high < 0.42


def test_one_policy_against_a_rate_stops_early():
    results = streams(0.9, seed=10)[0]
    found = rate_stream(results, 0.6)
    assert found.state == "a better"
    assert found.trials < 60
    before = rate_sequential(int(results[: found.trials - 1].sum()), int((~results[: found.trials - 1]).sum()), 0.6)
    assert before.state == "undecided"
    assert rate_stream(~results, 0.6).state == "b better"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired_sequential(-1, 0), "wins is -1"),
        (lambda: paired_sequential(1.5, 0), "wins is 1.5"),
        (lambda: paired_sequential(NAN, 0), "wins is nan"),
        (lambda: paired_sequential(3, 4, trials=6), "6 trials"),
        (lambda: paired_sequential(1, 0, alpha=0), "alpha is 0"),
        (lambda: paired_sequential(1, 0, alpha=NAN), "alpha is nan"),
        (lambda: rate_sequential(1, 0, 1.0), "rate of 1.0"),
        (lambda: rate_stream([YES], NAN), "rate of nan"),
        (lambda: confidence_sequence(2, 1), "2 successes"),
        (lambda: confidence_sequence(0, 0), "trials is 0"),
        (lambda: paired_stream([YES], [YES, NO]), "a 1, b 2"),
        (lambda: paired_stream([], []), "a is empty"),
        (lambda: unpaired_stream([YES], [1]), "b is of int64"),
        (lambda: unpaired_stream([YES], [None]), "b is of object"),
    ],
)
def test_trials_that_cannot_be_tested(call, words):
    with pytest.raises(VlawError, match=words) as error:
        call()
    assert error.value.where == "sequential test"
    assert error.value.remedy


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
