"""Did imagination go where the robot failed? Distances between embeddings of episodes, and what counts as near.

Of arrays only. "Near" is not a number of ours: it is how near real episodes of the same task lie to each other.
"""

from __future__ import annotations

import numpy as np


def neighbour_distance(vectors: np.ndarray) -> float | None:
    """The median, over episodes, of the cosine distance to the nearest other episode; None for fewer than two.

    `vectors` (N, D) of length 1. Half of the episodes have another one at least this near.
    """
    if len(vectors) < 2:
        return None
    apart = distances(vectors, vectors)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(axis=1)))


def nearest(vectors: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `vectors` (N, D) the index (N,) int64 of the nearest of `others` (M, D) and its distance (N,)
    float64.

    Where there are no others: index -1, distance infinity.
    """
    if not len(others):
        return np.full(len(vectors), -1, np.int64), np.full(len(vectors), np.inf)
    apart = distances(vectors, others)
    index = apart.argmin(axis=1) if len(vectors) else np.empty(0, np.int64)
    return index, apart[np.arange(len(vectors)), index]


def distances(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine distances (N, M) float64 in [0, 2] between vectors of length 1: 0 the same direction, 1 at right
    angles."""
    return np.clip(1.0 - vectors.astype(np.float64) @ others.astype(np.float64).T, 0.0, 2.0)
