"""The Fréchet distance between two sets of feature vectors: what FID and FVD compute once a network has read the
pictures.

    d = |mean_a - mean_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)),  C the sample covariances (divided by n - 1)

Also its extrapolation to infinitely many samples. With centred rows A and B the last trace is the sum of the singular
values of R_a R_b^T, where A = Q_a R_a. Taking it from there rather than from a root of the product of covariances
squares nothing: equal sets come out at 1e-13, not at 1e-6, and fewer rows than dimensions (singular covariances) need
no fudge on the diagonal. Sources: Dowson and Landau 1982; Heusel et al. 2017 (FID); Unterthiner et al. 2018 (FVD);
Chong and Forsyth 2020 (bias).
"""

from __future__ import annotations

import numpy as np
import torch

from vlaw_models.errors import VlawError
from vlaw_models.threads import on_threads

FRACTIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Parts of the rows on which `frechet_extrapolated` measures."""


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The squared Fréchet (2-Wasserstein) distance of the Gaussians fitted to rows (N, D) and (M, D); 0 or more.

    In squared units of the features. Any numeric dtype, computed in float64. Symmetric; unchanged by the order of rows
    and by a common rotation or shift of both sets.

    Biased upwards at small N: two independent samples of one distribution are about c (1/N + 1/M) apart, with c growing
    in D, and the bias depends on the distributions, so that two distances compare only at the same N, M and features.
    Below N = D + 1 the covariance is singular and the value is good for ranking at most; 5 D rows or more are
    customary. Where b is a replay of the same clips as a, the two share most of their sampling error and the bias is
    far smaller (none for a perfect replay). `frechet_extrapolated` removes the bias to first order where there are
    enough rows. VlawError for fewer than 2 rows, another number of dimensions, and values that are not finite numbers.
    """
    first, second = _checked(a, b)
    return max(float(_distance(first, second)), 0.0)


def frechet_extrapolated(a: np.ndarray, b: np.ndarray, *, seed: int, paired: bool, repeats: int = 8) -> float:
    """`frechet_distance` extrapolated to infinitely many rows; unbiased to first order, so it may come out below 0.

    The distance of random subsets (`repeats` of each of `FRACTIONS`) is linear in 1/fraction; returned is the intercept
    of that line (Chong and Forsyth 2020, with subsets of both sets). `paired` draws the same rows of both: for row i
    of b being the replay of row i of a. Deterministic given `seed`. VlawError as above, and for fewer than 2 (D + 1)
    rows, below which the smallest subsets have singular covariances and no line holds.
    """
    first, second = _checked(a, b)
    least = 2 * (first.shape[1] + 1)
    if min(len(first), len(second)) < least:
        raise VlawError(
            f"{min(len(first), len(second))} rows of {first.shape[1]} dimensions cannot be extrapolated",
            where="Fréchet distance",
            remedy=f"Give at least {least} rows, or use frechet_distance as it is.",
        )
    if paired and len(first) != len(second):
        raise VlawError(
            f"{len(first)} and {len(second)} rows are not pairs",
            where="Fréchet distance",
            remedy="Give one row of b for each of a, or paired=False.",
        )
    rng = np.random.default_rng(seed)
    inverse, values = [], []
    for fraction in FRACTIONS:
        for _ in range(repeats):
            rows = rng.permutation(len(first))[: round(fraction * len(first))]
            others = rows if paired else rng.permutation(len(second))[: round(fraction * len(second))]
            inverse.append(1 / fraction)
            values.append(_distance(first[rows], second[others]))
    _, intercept = np.polyfit(inverse, values, 1)
    return float(intercept)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    mean1, mean2 = first.mean(axis=0), second.mean(axis=0)
    centred1, centred2 = first - mean1, second - mean2
    scale1, scale2 = np.sqrt(len(first) - 1), np.sqrt(len(second) - 1)
    # One thread: how a matrix product is split between threads would show in the last digits.
    with on_threads(1):
        factor1, factor2 = (
            _triangle(torch.from_numpy(centred / scale)) for centred, scale in ((centred1, scale1), (centred2, scale2))
        )
        cross = float(torch.linalg.svdvals(factor1 @ factor2.T).sum())
    shift = float(((mean1 - mean2) ** 2).sum())
    spread = float((centred1**2).sum()) / scale1**2 + float((centred2**2).sum()) / scale2**2
    return shift + spread - 2 * cross


def _triangle(rows: torch.Tensor) -> torch.Tensor:
    """R with R^T R = rows^T rows and at most as many rows as columns."""
    return rows if rows.shape[0] <= rows.shape[1] else torch.linalg.qr(rows, mode="r").R


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for rows in (a, b):
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise VlawError(
                f"features of shape {rows.shape}", where="Fréchet distance", remedy="Give one vector per row, (N, D)."
            )
        if len(rows) < 2:
            raise VlawError(
                f"a set of {len(rows)} rows has no covariance",
                where="Fréchet distance",
                remedy="Give at least 2 rows (more than dimensions, to mean much).",
            )
    if a.shape[1] != b.shape[1]:
        raise VlawError(
            f"features of {a.shape[1]} and {b.shape[1]} dimensions",
            where="Fréchet distance",
            remedy="Compute both with the same feature network.",
        )
    first, second = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise VlawError(
            "features with NaN or infinite values",
            where="Fréchet distance",
            remedy="The pictures or the feature network's weights are damaged.",
        )
    return first, second
