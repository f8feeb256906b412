"""Sizes and tests of differences, against what is known of them and against other ways to compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from vlaw_models.errors import VlawError
from vlaw_models.metrics.effects import cohens_h, holm, shift, superiority


def test_cohens_h_of_cohens_own_examples():
    assert cohens_h(0.5, 0.65) == pytest.approx(0.305, abs=0.001)
    assert cohens_h(0.65, 0.5) == cohens_h(0.5, 0.65)
    assert (cohens_h(0, 1), cohens_h(0.3, 0.3)) == (pytest.approx(math.pi), 0.0)


@pytest.mark.parametrize("d", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_size_of_numbers_reads_like_cohens_d(d):
    drawn = norm.ppf((np.arange(400) + 0.5) / 400)
    assert superiority(drawn, drawn + d) == pytest.approx(d, abs=0.12)
    assert superiority(drawn, drawn - d) == pytest.approx(superiority(drawn, drawn + d))


def test_the_size_of_numbers_needs_no_spread_and_is_never_above_pi():
    assert superiority([28] * 5, [14] * 5) == pytest.approx(math.pi)
    assert superiority([28] * 5, [28] * 7) == 0.0


def test_a_shift_is_the_middle_of_all_pairwise_differences():
    rng = np.random.default_rng(0)
    for n, m in ((7, 9), (8, 8), (12, 5)):
        a, b = rng.integers(0, 12, n), rng.integers(3, 15, m)
        found = shift(a, b)
        apart = np.sort(np.subtract.outer(b, a).ravel())
        assert found.diff == np.median(apart)
        assert found.low <= found.diff <= found.high
        assert {found.low, found.high} <= set(apart)
        assert shift(a + 5, b + 5)[:3] == found[:3]
        assert shift(b, a).diff == -found.diff


def test_the_interval_of_a_shift_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [shift(rng.normal(0, 1, 30).round(2), rng.normal(0.7, 1, 25).round(2)) for _ in range(300)]
    assert 0.92 <= np.mean([one.low <= 0.7 <= one.high for one in found]) <= 0.98


def test_samples_of_one_value_are_no_shift():
    assert shift([28] * 10, [28] * 4) == (0.0, 0.0, 0.0, 1.0)
    assert shift([28] * 10, [14] * 10)[:3] == (-14.0, -14.0, -14.0)
    assert shift([28] * 10, [14] * 10).p_value < 0.001


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    drawn = list(np.random.default_rng(2).random(30) ** 4)
    assert holm(drawn) == pytest.approx(list(multipletests(drawn, method="holm")[1]))


@pytest.mark.parametrize(("a", "b"), [([], [1.0]), ([1.0], [float("nan")])])
def test_nothing_and_nan_are_refused(a, b):
    for statistic in (shift, superiority):
        with pytest.raises(VlawError):
            statistic(a, b)
