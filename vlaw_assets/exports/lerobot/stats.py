"""What LeRobot keeps of every feature to scale by: of each episode, and of the whole dataset.

Memory does not grow with the dataset. Quantiles are exact up to MOST rows; of more they are those of rows that are
spread evenly. Pictures are sampled as LeRobot samples them, and their quantiles are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Stats = dict[str, np.ndarray]
"""min, max, mean, std, count (1,) and the quantiles of one feature."""
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
MOST = 1 << 17
"""Rows of which the quantiles of a whole dataset are taken, at most twice as many."""
LEAST, POWER = 100, 0.75
"""Of an episode of n frames max(LEAST, n ** POWER) are looked at, or all."""
LARGE, SMALL = 300, 150
"""Pixels: frames with a longer side than LARGE are thinned out towards SMALL."""


def of_rows(values: np.ndarray) -> Stats:
    """Of (n, D) numbers, all finite."""
    rows = _rows(values)
    return _summary(rows, rows)


def levels_of(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """(How often each brightness occurs in each colour (256, 3), frames looked at) of (n, h, w, 3) uint8."""
    count = min(len(frames), max(LEAST, int(len(frames) ** POWER)))
    steps = np.round(np.linspace(0, len(frames) - 1, count)).astype(int)
    height, width = frames.shape[1:3]
    thin = 1 if max(height, width) < LARGE else int(max(height, width) / SMALL)
    looked_at = frames[steps, ::thin, ::thin]
    return np.stack([np.bincount(looked_at[..., colour].ravel(), minlength=256) for colour in range(3)], 1), count


def of_levels(levels: np.ndarray, count: int) -> Stats:
    """Of pictures: of brightness from 0 to 1, each (3, 1, 1)."""
    value = np.arange(256)[:, None] / 255
    total = levels.sum(0)
    mean = (levels * value).sum(0) / total
    below = np.cumsum(levels, 0)
    found = {
        "min": value[np.argmax(levels > 0, 0), 0],
        "max": value[255 - np.argmax(levels[::-1] > 0, 0), 0],
        "mean": mean,
        "std": np.sqrt((levels * (value - mean) ** 2).sum(0) / total),
        **{name: value[np.argmax(below >= share * total, 0), 0] for name, share in QUANTILES.items()},
    }
    return {name: values.reshape(3, 1, 1) for name, values in found.items()} | {"count": np.array([count])}


class Whole:
    """Statistics of a feature over all episodes."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self.kept, self._seen, self._stride = 0, 0, 1
        self._parts: list[Stats] = []
        self._levels = np.zeros((256, 3), np.int64)
        self._frames = 0

    def add(self, values: np.ndarray) -> None:
        """Rows (n, D) of one more episode; those with a number that is not finite do not count."""
        rows = _rows(values)
        known = rows[np.isfinite(rows).all(1)]
        if not len(known):
            return
        self._parts = [_merged([*self._parts, _summary(known, known[:1])])]
        self._rows.append(known[-self._seen % self._stride :: self._stride].astype(np.float32))
        self._seen += len(known)
        self.kept += len(self._rows[-1])
        if self.kept > 2 * MOST:
            self._rows = [np.concatenate(self._rows)[::2]]
            self.kept, self._stride = len(self._rows[0]), 2 * self._stride

    def add_levels(self, levels: np.ndarray, count: int) -> None:
        """What `levels_of` gave of one more episode."""
        self._levels += levels
        self._frames += count

    def found(self) -> Stats | None:
        """None where nothing was added."""
        if self._frames:
            return of_levels(self._levels, self._frames)
        if not self._parts:
            return None
        rows = np.concatenate(self._rows).astype(np.float64)
        return self._parts[0] | {name: np.quantile(rows, share, axis=0) for name, share in QUANTILES.items()}


def plain(stats: Stats) -> dict[str, Any]:
    """As JSON and Parquet take them."""
    return {name: stats[name].tolist() for name in NAMES}


def _rows(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _summary(known: np.ndarray, rows: np.ndarray) -> Stats:
    """Of `known`, with the quantiles of `rows`."""
    found = {"min": known.min(0), "max": known.max(0), "mean": known.mean(0), "std": known.std(0)}
    quantiles = {name: np.quantile(rows, share, axis=0) for name, share in QUANTILES.items()}
    return found | {"count": np.array([len(known)])} | quantiles


def _merged(parts: list[Stats]) -> Stats:
    """Of parts that follow each other; the quantiles are not merged."""
    counts = np.array([part["count"] for part in parts], np.float64)
    total = counts.sum()
    means = np.stack([part["mean"] for part in parts])
    mean = (means * counts).sum(0) / total
    spread = np.stack([part["std"] for part in parts]) ** 2 + (means - mean) ** 2
    return parts[0] | {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((spread * counts).sum(0) / total),
        "count": np.array([int(total)]),
    }
