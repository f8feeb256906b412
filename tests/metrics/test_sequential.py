"""Tests that may be looked at after every trial, against exact sums and counts."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from vlaw_models.errors import VlawError
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
from vlaw_models.metrics.stats import wilson

YES, NO = True, False
NAN = float("nan")


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
