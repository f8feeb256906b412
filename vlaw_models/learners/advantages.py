"""Advantages of whole episodes, and what learners make of them: weights (AWR) and signs (RECAP).

The return R of an episode is 1 or 0 where the robot acted; of an imagined one it is P(yes), or 1 or 0 by alpha (RECAP).
The value V of the reference policy is the success rate of its newest real rollouts of the same task, a Monte Carlo
estimate; gamma = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vlaw_models.errors import VlawError
from vlaw_models.learners.base import REAL, Candidate

MAX_WEIGHT = 20.0
"""exp(A / beta) is cut off here before it is normalised (Peng et al. 2019 use the same)."""


def values(newest: Sequence[tuple[str, bool]], before: Sequence[tuple[str, bool]] = ()) -> dict[str, float]:
    """V per task from (task, success) of the newest real rollouts; a task they lack takes V from those `before`."""
    found: dict[str, list[bool]] = {}
    for outcomes in (newest, before):
        known = set(found)
        for task, success in outcomes:
            if task not in known:
                found.setdefault(task, []).append(bool(success))
    return {task: float(np.mean(outcomes)) for task, outcomes in found.items()}


def advantages_of(candidates: Sequence[Candidate], returns: Sequence[float]) -> tuple[dict[str, float], np.ndarray]:
    """V per task, and A of every candidate (N,), for its return. Raises VlawError as `advantages`."""
    outcomes = {
        newest: [(c.task, c.score > 0.5) for c in candidates if c.source == REAL and c.newest == newest]
        for newest in (True, False)
    }
    value = values(outcomes[True], outcomes[False])
    return value, advantages(returns, [candidate.task for candidate in candidates], value)


def advantages(returns: Sequence[float], tasks: Sequence[str], value: Mapping[str, float]) -> np.ndarray:
    """A = R - V, (N,). Raises VlawError for a return outside [0, 1] and for a task whose value nobody knows."""
    unknown = sorted(set(tasks) - set(value))
    if unknown:
        raise VlawError(
            f"there is no real rollout of {', '.join(unknown)} to take the policy's value from",
            where="advantages",
            remedy="Set [rollouts] episodes_per_task to 1 or more.",
        )
    returned = np.asarray(returns, dtype=np.float64)
    if not ((returned >= 0) & (returned <= 1)).all():
        raise VlawError(
            "a return is not between 0 and 1",
            where="advantages",
            remedy="Returns are outcomes (0, 1) or probabilities of success.",
        )
    return returned - np.array([value[task] for task in tasks], dtype=np.float64)


def awr_weights(advantage: np.ndarray, beta: float) -> np.ndarray:
    """w = exp(A / beta) of Eqs. 7 and 11, at most MAX_WEIGHT, then divided by their mean: (N,) with mean 1.

    To be called per source: the share of real and imagined steps in a batch is the recipe's `imagined_fraction`,
    whatever the advantages are. Raises VlawError for a beta that is not above 0.
    """
    if not beta > 0:
        raise VlawError(f"a temperature beta of {beta}", where="AWR weights", remedy="Use a temperature above 0.")
    weights = np.exp(np.minimum(np.asarray(advantage, dtype=np.float64) / beta, np.log(MAX_WEIGHT)))
    return weights / weights.mean() if len(weights) else weights


def positive(returns: Sequence[float], advantage: np.ndarray) -> np.ndarray:
    """The binarised advantage of RECAP, (N,) bool: A > 0, and certain successes of a task that never fails."""
    return (advantage > 0) | (np.asarray(returns) >= 1.0)
