"""A two-by-two table of truth against verdict, and its rates, each with its Wilson interval.

Of the reward model's scores (calibration.py) and of outcomes of replays in the world model (events.py). A rate whose
denominator is zero does not exist: it is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vlaw_models.metrics.inputs import count, outcomes, same_length
from vlaw_models.metrics.stats import wilson

RATES = ("precision", "recall", "false_positive_rate", "false_negative_rate")


class Proportion(NamedTuple):
    """k of n, as a rate with its 95 % Wilson interval."""

    k: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Confusion:
    """tp: true, judged true. fp: false, judged true. fn: true, judged false. tn: false, judged false."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __post_init__(self) -> None:
        for name in ("tp", "fp", "fn", "tn"):
            count(getattr(self, name), name, where="confusion matrix")

    @property
    def trials(self) -> int:
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> Proportion | None:
        """tp / (tp + fp): how often a "success" is one."""
        return _proportion(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Proportion | None:
        """tp / (tp + fn): how many successes are found."""
        return _proportion(self.tp, self.tp + self.fn)

    @property
    def false_positive_rate(self) -> Proportion | None:
        """fp / (fp + tn): how many failures are judged successes."""
        return _proportion(self.fp, self.fp + self.tn)

    @property
    def false_negative_rate(self) -> Proportion | None:
        """fn / (fn + tp): how many successes are judged failures."""
        return _proportion(self.fn, self.fn + self.tp)

    def row(self) -> dict[str, Any]:
        """Flat, for a table: the counts; each rate under its name with _low and _high; None where it does not exist."""
        found: dict[str, Any] = {"tp": self.tp, "fp": self.fp, "fn": self.fn, "tn": self.tn}
        for name in RATES:
            rate = getattr(self, name)
            for key, field in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
                found[key] = None if rate is None else getattr(rate, field)
        return found


def confusion(truth: np.ndarray, verdict: np.ndarray, *, where: str = "confusion matrix") -> Confusion:
    """Counts of `truth` against `verdict`, both (N,) bool of the same items. VlawError for anything else, or none."""
    true, said = outcomes(truth, "truth", where=where), outcomes(verdict, "verdict", where=where)
    same_length(truth=true, verdict=said, where=where)
    return Confusion(
        int((true & said).sum()), int((~true & said).sum()), int((true & ~said).sum()), int((~true & ~said).sum())
    )


def _proportion(k: int, n: int) -> Proportion | None:
    return Proportion(k, n, k / n, *wilson(k, n)) if n else None
