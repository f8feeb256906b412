"""The inputs that the statistics modules share, checked once: outcomes, numbers, tasks, counts, error rates.

Array in, checked array out, or VlawError that says what is wrong with which argument. Outcomes must really be booleans:
a score passed where an outcome belongs would otherwise give a number that looks right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlaw_models.errors import VlawError


def outcomes(values: Any, name: str, *, where: str) -> np.ndarray:
    """(N,) bool, N >= 1. VlawError where it is empty, not one-dimensional or not of booleans (0, 1, None are not)."""
    found = _flat(values, name, where)
    if found.dtype != np.bool_:
        raise VlawError(
            f"{name} is of {found.dtype}, not of booleans",
            where=where,
            remedy="Give success as True or False; leave out trials that nobody judged.",
        )
    return found


def numbers(values: Any, name: str, *, where: str, unit_range: bool = False) -> np.ndarray:
    """(N,) float64, N >= 1, finite; within [0, 1] where `unit_range`. VlawError otherwise."""
    found = _flat(values, name, where)
    if found.dtype.kind not in "fiu":
        raise VlawError(f"{name} is of {found.dtype}, not of numbers", where=where, remedy="Give one number per item.")
    found = found.astype(np.float64)
    if not np.isfinite(found).all():
        raise VlawError(
            f"{name} has {int((~np.isfinite(found)).sum())} NaN or infinite values",
            where=where,
            remedy="Find what made them; a model that diverged has no figures.",
        )
    if unit_range and (found.min() < 0 or found.max() > 1):
        raise VlawError(
            f"{name} lies in [{found.min():.3g}, {found.max():.3g}]",
            where=where,
            remedy="Give probabilities in [0, 1], not logits.",
        )
    return found


def same_length(*, where: str, **arrays: Sequence[Any] | np.ndarray) -> None:
    """VlawError unless all are equally long."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise VlawError(
            "different lengths: " + ", ".join(f"{name} {n}" for name, n in lengths.items()),
            where=where,
            remedy="Give one value per item, in the same order.",
        )


def error_rate(alpha: float, *, where: str) -> float:
    """`alpha` if it lies strictly between 0 and 1, else VlawError (NaN too)."""
    if not 0 < alpha < 1:
        raise VlawError(f"alpha is {alpha}", where=where, remedy="Give an error rate between 0 and 1, such as 0.05.")
    return float(alpha)


def count(value: int, name: str, *, where: str, least: int = 0) -> int:
    """`value` as an int of at least `least`, else VlawError (fractions, NaN and booleans too)."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise VlawError(f"{name} is {value!r}", where=where, remedy=f"Give a whole number, at least {least}.")
    return int(value)


def _flat(values: Any, name: str, where: str) -> np.ndarray:
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise VlawError(f"{name} is not an array: {error}", where=where, remedy="Give one value per item.") from error
    if found.ndim != 1:
        raise VlawError(f"{name} has shape {found.shape}", where=where, remedy="Give a flat list, one value per item.")
    if not len(found):
        raise VlawError(f"{name} is empty", where=where, remedy="Give at least one value.")
    return found
