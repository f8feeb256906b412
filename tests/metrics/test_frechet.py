"""Fréchet distances: closed forms, the platform's own, and features that have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlaw_models.errors import VlawError
from vlaw_models.metrics.frechet import frechet_distance, frechet_extrapolated


def whitened(rng: np.random.Generator, rows: int, dimensions: int) -> np.ndarray:
    """Rows whose sample mean is 0 and sample covariance is the identity, exactly."""
    centred = rng.normal(size=(rows, dimensions))
    centred -= centred.mean(axis=0)
    return np.linalg.qr(centred)[0] * np.sqrt(rows - 1)


def test_frechet_distance_of_gaussians_in_closed_form():
    rng = np.random.default_rng(0)
    a, b = whitened(rng, 50, 4), whitened(rng, 70, 4)
    sigma, tau, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 2.0, 1.0, 0.0]), np.array([1.0, -2.0, 0.0, 0.5])
    assert frechet_distance(a, b + shift) == pytest.approx((shift**2).sum(), abs=1e-10)
    wanted = (shift**2).sum() + ((sigma - tau) ** 2).sum()
    assert frechet_distance(a * sigma, b * tau + shift) == pytest.approx(wanted, abs=1e-10)
    # Covariances that do not commute: the matrix root's eigenvalues, by another road.
    mix, other = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    first, second = mix.T @ mix, other.T @ other
    root = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    assert frechet_distance(a @ mix, b @ other) == pytest.approx(np.trace(first + second) - 2 * root, abs=1e-9)


def test_frechet_distance_of_equal_sets_and_fewer_rows_than_dimensions():
    rng = np.random.default_rng(1)
    few, many = rng.normal(size=(9, 40)), rng.normal(size=(200, 40))
    for rows in (few, many, 1e4 + few):
        assert frechet_distance(rows, rows[::-1].copy()) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(few, many) == pytest.approx(frechet_distance(many, few))
    assert frechet_distance(few, few + 2) == pytest.approx(160)
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    assert frechet_distance(few @ turn + 5, many @ turn + 5) == pytest.approx(frechet_distance(few, many))
    assert frechet_distance(3 * few, 3 * many) == pytest.approx(9 * frechet_distance(few, many))


def test_extrapolation_takes_the_bias_away():
    plain, extrapolated = [], []
    for seed in range(6):
        a, b = np.random.default_rng(seed).normal(size=(2, 120, 12))
        plain.append(frechet_distance(a, b))
        extrapolated.append(frechet_extrapolated(a, b, seed=seed, paired=False))
    assert np.mean(plain) > 0.3
    assert abs(np.mean(extrapolated)) < 0.25 * np.mean(plain)
    assert frechet_extrapolated(a, b, seed=1, paired=True) == frechet_extrapolated(a, b, seed=1, paired=True)
    assert frechet_extrapolated(a, a, seed=1, paired=True) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((1, 3)), np.ones((5, 3)), "1 rows"),
        (np.ones((4, 3)), np.ones((4, 2)), "3 and 2 dimensions"),
        (np.ones((4, 3)), np.full((4, 3), np.nan), "NaN"),
        (np.ones(4), np.ones(4), "shape"),
    ],
)
def test_features_that_have_no_distance(a, b, words):
    with pytest.raises(VlawError, match=words):
        frechet_distance(a, b)


def test_extrapolation_needs_rows():
    rows = np.random.default_rng(0).normal(size=(20, 12))
    with pytest.raises(VlawError, match="at least 26 rows"):
        frechet_extrapolated(rows, rows, seed=0, paired=True)
    with pytest.raises(VlawError, match="not pairs"):
        frechet_extrapolated(rows[:, :3], rows[:15, :3], seed=0, paired=True)


def test_frechet_distance_is_torchmetrics():
    """The platform's own takes any features and says how many samples it had; the number must be the known one."""
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(400, 12)), rng.normal(0.3, 1.4, size=(500, 12)) @ rng.normal(size=(12, 12))
    moments = [torch.from_numpy(m) for x in (first, second) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(first, second) == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)
