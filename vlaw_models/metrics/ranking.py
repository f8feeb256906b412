"""Does the world model order policies as the robot does? Success rates of the same policies in both, compared.

    pearson    linear correlation of the rates
    spearman   Pearson's of the ranks, ties share their mean rank
    kendall    tau-b: concordant minus discordant pairs, corrected for ties (Kendall 1945)
    mmrv       mean maximum rank violation (Li et al. 2024, SIMPLER): for each policy the largest real difference in
               success to a policy that the world model puts on the wrong side of it; mean over policies. 0 is right

Intervals are percentile bootstraps over policies (`over_policies`: other policies might have been compared) or over
trials (`over_trials`: these policies, but other trials). With few policies, and there always are few, the first is wide
and rough; report both. Resamples without an answer (all policies tied) are left out and counted.

Redrawing trials adds their noise a second time, which pulls correlations towards 0 and mmrv upwards: the interval's end
on the bad side is cautious, the end on the good side too modest, at worst on the wrong side of the value itself. The
interval is then stretched to hold the value. Claim the bad end only ("at least", for mmrv "at most").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from vlaw_models.errors import VlawError
from vlaw_models.metrics.inputs import count, error_rate, numbers, outcomes, same_length

WHERE = "policy ranks"


class Bootstrap(NamedTuple):
    """A measure with its interval, which holds it. `undefined` of the `resamples` had no answer and are left out of the
    interval."""

    value: float
    low: float
    high: float
    resamples: int
    undefined: int


def pearson(world_model: np.ndarray, real: np.ndarray) -> float:
    """Correlation in [-1, 1] of two (N,) success rates, one per policy, N >= 2.

    VlawError for fewer than two policies, NaN, unequal lengths, and where one side gives all policies the same rate.
    """
    return _measure("pearson", world_model, real)


def spearman(world_model: np.ndarray, real: np.ndarray) -> float:
    """Rank correlation in [-1, 1] of two (N,) success rates, ties at their mean rank. VlawError as for pearson."""
    return _measure("spearman", world_model, real)


def kendall(world_model: np.ndarray, real: np.ndarray) -> float:
    """Kendall's tau-b in [-1, 1] of two (N,) success rates. VlawError as for pearson."""
    return _measure("kendall", world_model, real)


def mmrv(world_model: np.ndarray, real: np.ndarray) -> float:
    """Mean maximum rank violation of two (N,) success rates, in the unit of `real`; not symmetric in its arguments.

        violation(i, j) = |real_i - real_j| if (world_model_i > world_model_j) != (real_i > real_j) else 0
        mmrv = mean over i of max over j of violation(i, j)

    As published, a tie in the world model between policies that differ in reality counts against the better one only.
    Defined for ties; VlawError for fewer than two policies, NaN, unequal lengths.
    """
    return _measure("mmrv", world_model, real)


def over_policies(
    measure: str,
    world_model: np.ndarray,
    real: np.ndarray,
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    alpha: float = 0.05,
) -> Bootstrap:
    """`measure` ("pearson", "spearman", "kendall", "mmrv") with a (1 - alpha) interval, policies drawn with
    replacement.

    Arrays (N,), N >= 3. VlawError as the measure, and where more than half of the resamples have no answer.
    """
    value = _measure(measure, world_model, real)
    first, second = np.asarray(world_model, np.float64), np.asarray(real, np.float64)
    if len(first) < 3:
        raise VlawError("fewer than 3 policies", where=WHERE, remedy="Give at least 3; with 2 use over_trials.")
    drawn = generator.integers(len(first), size=(count(resamples, "resamples", where=WHERE, least=100), len(first)))
    return _bootstrap(value, [MEASURES[measure](first[row], second[row]) for row in drawn], alpha)


def over_trials(
    measure: str,
    world_model: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    alpha: float = 0.05,
) -> Bootstrap:
    """`measure` of these policies' success rates with a (1 - alpha) interval, each policy's trials drawn independently.

    `world_model`, `real`: per policy the outcomes of its trials, (n,) bool, lengths may differ. Policies tried on the
    same start states agree more than independent draws do, so the interval is then too wide rather than too narrow.
    """
    same_length(world_model=world_model, real=real, where=WHERE)
    count(resamples, "resamples", where=WHERE, least=100)
    sides = [
        [outcomes(trials, f"{name}[{i}]", where=WHERE) for i, trials in enumerate(side)]
        for name, side in (("world_model", world_model), ("real", real))
    ]
    rates = [np.array([trials.sum() / len(trials) for trials in side]) for side in sides]
    value = _measure(measure, *rates)
    # Drawing n outcomes with replacement from k successes of n is one binomial draw.
    drawn = [
        np.stack(
            [
                generator.binomial(len(trials), rate, resamples) / len(trials)
                for trials, rate in zip(side, means, strict=True)
            ],
            axis=1,
        )
        for side, means in zip(sides, rates, strict=True)
    ]
    return _bootstrap(value, [MEASURES[measure](first, second) for first, second in zip(*drawn, strict=True)], alpha)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    return _correlation(stats.pearsonr, a, b)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return _correlation(stats.spearmanr, a, b)


def _kendall(a: np.ndarray, b: np.ndarray) -> float:
    return _correlation(stats.kendalltau, a, b)


def _correlation(measure: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> float:
    """NaN where one side is constant; scipy would also warn of each."""
    return float("nan") if np.ptp(a) == 0 or np.ptp(b) == 0 else float(measure(a, b).statistic)


def _mmrv(a: np.ndarray, b: np.ndarray) -> float:
    apart = np.subtract.outer(b, b)
    violated = (np.subtract.outer(a, a) > 0) != (apart > 0)
    return float(np.where(violated, np.abs(apart), 0.0).max(axis=1).mean())


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "kendall": _kendall,
    "mmrv": _mmrv,
}


def _measure(name: str, world_model: np.ndarray, real: np.ndarray) -> float:
    if name not in MEASURES:
        raise VlawError(f"no measure {name!r}", where=WHERE, remedy=f"Use one of {', '.join(MEASURES)}.")
    first, second = numbers(world_model, "world_model", where=WHERE), numbers(real, "real", where=WHERE)
    same_length(world_model=first, real=second, where=WHERE)
    if len(first) < 2:
        raise VlawError("fewer than 2 policies", where=WHERE, remedy="Give at least 2: one has no rank.")
    value = MEASURES[name](first, second)
    if np.isnan(value):
        side = "the world model" if np.ptp(first) == 0 else "reality"
        raise VlawError(
            f"all {len(first)} policies have the same success rate in {side}",
            where=WHERE,
            remedy="A correlation with a constant does not exist: compare more different policies, or use mmrv.",
        )
    return value


def _bootstrap(value: float, drawn: Sequence[float], alpha: float) -> Bootstrap:
    tail = error_rate(alpha, where=WHERE) / 2
    values = np.array(drawn)
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < len(values):
        raise VlawError(
            f"{len(values) - len(defined)} of {len(values)} resamples have all policies tied",
            where=WHERE,
            remedy="Compare more policies or more different ones, or use mmrv.",
        )
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Bootstrap(value, min(float(low), value), max(float(high), value), len(values), len(values) - len(defined))
