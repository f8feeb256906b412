"""Two policies of a study on the same starts: difference, interval, test, and when a sequential test would have
stopped.

Trials of equal seed, task and start are pairs. The first interval is a percentile bootstrap over starts: all seeds of a
start are drawn together, because layouts differ more than trials on one layout do. It does not hold how much training
varies. The second does: Student's t over the differences of the seeds, each trained anew. McNemar's test and the
sequential test read pairs one by one, all seeds of a start before the next start, so that an early stop has seen every
seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlaw_assets.reports.study.facts import REPORTED, Facts
from vlaw_models.metrics.sequential import UNDECIDED, Decision, paired_stream
from vlaw_models.metrics.stats import Difference, mcnemar, paired_difference, t_interval

RESAMPLES, SEED = 10_000, 0
ROUNDING = 1e-9
"""Of differences of rates: 0.40 - 0.45 is a little less than -0.05."""
Trials = Mapping[tuple[int, int, str], bool]
"""(seed, start, task) -> success."""


@dataclass(frozen=True)
class Comparison:
    """First minus second."""

    first: float
    second: float
    diff: float
    low: float
    high: float
    pairs: int
    starts: int
    only_first: int
    only_second: int
    p_value: float
    """McNemar, exact, two-sided."""
    sequential: Decision
    per_seed: dict[int, Difference]
    over_seeds: Difference | None
    """Mean of the seeds' differences with its Student t interval; None with one seed."""

    @property
    def decided(self) -> str:
        """The sequential test's verdict in words."""
        if self.sequential.state == UNDECIDED:
            return f"undecided after {self.sequential.trials} pairs"
        which = "first" if self.sequential.state == "a better" else "second"
        return f"{which} better after {self.sequential.trials} of {self.pairs} pairs"


def compare(facts: Facts, first: tuple[str, int], second: tuple[str, int], noise: str = REPORTED) -> Comparison | None:
    """Two policies by (recipe, iteration), over the seeds that both have; None where they share no trial."""
    return compare_trials(facts.outcomes(*first, noise), facts.outcomes(*second, noise))


def compare_tasks(
    facts: Facts, first: tuple[str, int], second: tuple[str, int], noise: str = REPORTED
) -> dict[str, Comparison]:
    """Task -> two policies on it; a task in which they share no trial is left out."""
    sides = [facts.outcomes(*side, noise) for side in (first, second)]
    found = {
        task: compare_trials(*({key: won for key, won in side.items() if key[2] == task} for side in sides))
        for task in facts.tasks
    }
    return {task: one for task, one in found.items() if one is not None}


def compare_trials(first: Trials, second: Trials) -> Comparison | None:
    """Of trials by (seed, start, task); None where they share none."""
    keys = sorted(first.keys() & second.keys(), key=lambda key: (key[1], key[2], key[0]))
    if not keys:
        return None
    a, b = (np.array([side[key] for key in keys], bool) for side in (first, second))
    seeds = np.array([seed for seed, _, _ in keys])
    starts = [key[1:] for key in keys]
    low, high = _clustered(a.astype(int) - b, starts)
    diff = float(a.mean() - b.mean())
    per_seed = {int(seed): paired_difference(a[seeds == seed], b[seeds == seed]) for seed in np.unique(seeds)}
    return Comparison(
        float(a.mean()),
        float(b.mean()),
        diff,
        min(low, diff),
        max(high, diff),
        len(keys),
        len(set(starts)),
        int((a & ~b).sum()),
        int((b & ~a).sum()),
        mcnemar(a, b),
        paired_stream(a, b),
        per_seed,
        t_interval([one.diff for one in per_seed.values()]) if len(per_seed) > 1 else None,
    )


def at_least(difference: float, bound: float) -> bool:
    """Whether a difference of rates reaches `bound`, up to rounding."""
    return difference >= bound - ROUNDING


def _clustered(differences: np.ndarray, starts: list[tuple[int, str]]) -> tuple[float, float]:
    """95 % interval of the mean of `differences` (N,), with starts drawn with replacement."""
    index = {start: number for number, start in enumerate(dict.fromkeys(starts))}
    of = np.array([index[start] for start in starts])
    sums, counts = np.bincount(of, differences, len(index)), np.bincount(of, minlength=len(index))
    # Drawing as many starts as there are is a multinomial count of each.
    drawn = np.random.default_rng(SEED).multinomial(len(index), np.full(len(index), 1 / len(index)), RESAMPLES)
    means = (drawn @ sums) / (drawn @ counts)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
