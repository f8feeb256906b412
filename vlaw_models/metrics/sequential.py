"""Sequential tests: look after every trial, stop as soon as the answer is clear, and still err at most alpha of the
time.

    two policies, same start states     paired_sequential (counts), paired_stream
    two policies, independent starts    unpaired_stream
    one policy against a stated rate    rate_sequential (counts), rate_stream
    an interval valid at every look     confidence_sequence

One construction serves all. For "the rate is at most r" the e-value after s successes and f failures is the likelihood
of rates above r, averaged uniformly over (r, 1), over that of r itself (Robbins 1970, method of mixtures):

    E(s, f) = 1 / (1-r) * integral from r to 1 of (p/r)^s ((1-p)/(1-r))^f dp

Under every rate <= r it is a non-negative supermartingale that starts at 1, so it ever reaches 2/alpha with probability
at most alpha/2 (Ville's inequality), however often and for whatever reason one looks or stops. The other side is the
same with successes and failures exchanged; the two halves make alpha. Under no difference, a test that is read after
each trial as if it were the only look (McNemar's, Wilson's) errs far more often.

Paired trials: where both policies succeed or both fail, the trial says nothing; `a` wins the others with a rate of more
than 1/2 exactly if `a` is better. Independent streams are paired in order of arrival: the odds that `a` wins a pair on
which they differ are the odds ratio of the two rates (Wald 1947, ch. 6), so the same test holds.

Fixed-sample tests are in stats.py. "Undecided" is not "equal": more trials may still tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlaw_models.errors import VlawError
from vlaw_models.metrics.inputs import count, error_rate, outcomes, same_length
from vlaw_models.metrics.stats import Interval

WHERE = "sequential test"
State = Literal["a better", "b better", "undecided"]
A_BETTER: State = "a better"
B_BETTER: State = "b better"
UNDECIDED: State = "undecided"
LARGEST_LOG_E = 690.0
"""e-values are reported up to e^690 (about 1e299), so that every figure stays finite."""


@dataclass(frozen=True)
class Decision:
    """What is known after `trials` trials; b is the stated rate where one policy is tested against a rate."""

    state: State
    e_value: float
    """Evidence for the side that is ahead: 1 none; `threshold` decides. At most e^690."""
    threshold: float
    """2 / alpha."""
    trials: int
    """Trials read, those on which both policies agreed included (a stream: up to where it stopped)."""
    wins: int
    """Trials that spoke for a: won by a alone, or successes."""
    losses: int
    """Trials that spoke for b: won by b alone, or failures."""
    low: float
    high: float
    """Confidence sequence of wins / (wins + losses): excludes 1/2 (or the stated rate) exactly where it is decided."""


def paired_sequential(wins: int, losses: int, alpha: float = 0.05, *, trials: int | None = None) -> Decision:
    """Is policy a or policy b better, given how many trials each won alone so far? Ask after every trial.

    `wins`: a succeeded and b failed; `losses`: the reverse; `trials`: all trials so far, for the record only. The
    chance of ever naming a better policy when they are equal is at most `alpha`; of ever naming the worse, alpha/2.
    VlawError for negative counts, trials fewer than wins + losses, alpha outside (0, 1).
    """
    return _decide(wins, losses, 0.5, alpha, trials)


def rate_sequential(successes: int, failures: int, rate: float, alpha: float = 0.05) -> Decision:
    """Is the policy's success rate above `rate` ("a better") or below it ("b better")? Ask after every trial.

    VlawError for negative counts, a rate or alpha outside (0, 1).
    """
    return _decide(successes, failures, rate, alpha, None)


def paired_stream(a: np.ndarray, b: np.ndarray, alpha: float = 0.05) -> Decision:
    """Reads outcomes in order and stops at the first decision. a[i], b[i] (N,) bool are of the same start state."""
    first, second = outcomes(a, "a", where=WHERE), outcomes(b, "b", where=WHERE)
    same_length(a=first, b=second, where=WHERE)
    return _first_decision(first, second, alpha)


def unpaired_stream(a: np.ndarray, b: np.ndarray, alpha: float = 0.05) -> Decision:
    """Like paired_stream for independent trials, (N,) and (M,) bool, each in its order of arrival.

    Trials of the longer stream without a partner are not used. The order must not depend on the outcomes.
    """
    first, second = outcomes(a, "a", where=WHERE), outcomes(b, "b", where=WHERE)
    shared = min(len(first), len(second))
    return _first_decision(first[:shared], second[:shared], alpha)


def rate_stream(results: np.ndarray, rate: float, alpha: float = 0.05) -> Decision:
    """Reads one policy's outcomes (N,) bool in order and stops where its rate is clearly above or below `rate`."""
    found = outcomes(results, "results", where=WHERE)
    upper, lower = stopping_bounds(len(found), rate, alpha)
    successes, trials = np.cumsum(found), np.arange(1, len(found) + 1)
    stop = _first((successes >= upper[trials]) | (successes <= lower[trials]))
    return rate_sequential(int(successes[stop]), int(stop + 1 - successes[stop]), rate, alpha)


def interleaved(trials: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """(task, seed) pairs in the order in which a sequential test reads them: the first seed of every task, then the
    second...

    Tasks by name, seeds ascending, whatever the order given: it must not depend on outcomes. Tasks of fewer trials end
    first.
    """
    ranked: list[tuple[int, str, int]] = []
    seen: dict[str, int] = {}
    for task, seed in sorted(set(trials)):
        ranked.append((seen.get(task, 0), task, seed))
        seen[task] = seen.get(task, 0) + 1
    return [(task, seed) for _, task, seed in sorted(ranked)]


def confidence_sequence(successes: int, trials: int, alpha: float = 0.05) -> Interval:
    """An interval of a success rate that holds at every look at once: P(it ever leaves the rate out) <= `alpha`.

    It is the set of rates that rate_sequential would not yet call wrong. VlawError as there, and without trials.
    """
    n = count(trials, "trials", where=WHERE, least=1)
    k = count(successes, "successes", where=WHERE)
    if k > n:
        raise VlawError(f"{k} successes of {n} trials", where=WHERE, remedy="Give no more successes than trials.")
    return _interval(k, n - k, math.log(2 / error_rate(alpha, where=WHERE)))


def stopping_bounds(n: int, rate: float = 0.5, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """When the test stops: (upper, lower), each (n+1,) int64, indexed by the number of trials that count.

    It stops after m trials at upper[m] or more successes (upper[m] > m: impossible yet) or at lower[m] or fewer
    (lower[m] = -1: impossible yet). For 1/2, trials that count are those that one policy won alone. VlawError as above.
    """
    count(n, "trials", where=WHERE, least=1)
    _check_rate(rate)
    bar = math.log(2 / error_rate(alpha, where=WHERE))
    return _upper(n, rate, bar), np.arange(n + 1) - _upper(n, 1 - rate, bar)


def log_e_value(successes: int, failures: int, rate: float) -> float:
    """Natural logarithm of the e-value E(s, f) against "the success rate is at most `rate`" (module docstring).

    By parts, E(s, f) = (1 + s c E(s-1, f+1)) / (f+1) with c = (1-rate)/rate: a sum of s+1 positive terms.
    """
    s, f = count(successes, "successes", where=WHERE), count(failures, "failures", where=WHERE)
    _check_rate(rate)
    return _log_e(s, f, rate)


def _log_e(s: int, f: int, rate: float) -> float:
    steps = np.arange(1, s + 1, dtype=np.float64)
    ratios = math.log1p(-rate) - math.log(rate) + np.log((s + 1 - steps) / (f + 1 + steps))
    terms = np.concatenate([[0.0], np.cumsum(ratios)])
    largest = float(terms.max())
    return largest + math.log(float(np.exp(terms - largest).sum())) - math.log(f + 1)


def _decide(s: int, f: int, rate: float, alpha: float, trials: int | None) -> Decision:
    wins, losses = count(s, "wins", where=WHERE), count(f, "losses", where=WHERE)
    _check_rate(rate)
    bar = math.log(2 / error_rate(alpha, where=WHERE))
    total = wins + losses if trials is None else count(trials, "trials", where=WHERE)
    if total < wins + losses:
        raise VlawError(
            f"{total} trials, but {wins} wins and {losses} losses",
            where=WHERE,
            remedy="Give all trials, those on which the policies agreed included.",
        )
    above, below = _log_e(wins, losses, rate), _log_e(losses, wins, 1 - rate)
    state: State = A_BETTER if above >= bar else B_BETTER if below >= bar else UNDECIDED
    return Decision(
        state,
        math.exp(min(max(above, below), LARGEST_LOG_E)),
        math.exp(bar),
        total,
        wins,
        losses,
        *_interval(wins, losses, bar),
    )


def _first_decision(a: np.ndarray, b: np.ndarray, alpha: float) -> Decision:
    wins, losses = np.cumsum(a & ~b), np.cumsum(b & ~a)
    differing = wins + losses
    upper, lower = stopping_bounds(max(1, int(differing[-1])), 0.5, alpha)
    stop = _first((wins >= upper[differing]) | (wins <= lower[differing]))
    return paired_sequential(int(wins[stop]), int(losses[stop]), alpha, trials=stop + 1)


def _first(stopped: np.ndarray) -> int:
    """Index of the first stop, or of the last trial."""
    return int(stopped.argmax()) if stopped.any() else len(stopped) - 1


def _upper(n: int, rate: float, bar: float) -> np.ndarray:
    """Fewest successes of m that reach the bar, m + 1 where none do, for m = 0 ... n.

    E grows with successes and falls with failures, so the bound never falls as m grows, and grows by at most 1 a trial.
    """
    bounds = np.empty(n + 1, np.int64)
    needed = 0
    for m in range(n + 1):
        while needed <= m and _log_e(needed, m - needed, rate) < bar:
            needed += 1
        bounds[m] = needed
    return bounds


def _interval(s: int, f: int, bar: float) -> Interval:
    return Interval(_lowest(s, f, bar), 1 - _lowest(f, s, bar))


def _lowest(s: int, f: int, bar: float) -> float:
    """The largest rate that is still called too low, 0 where none is: E falls as the rate it is held against grows."""
    low, high = 0.0, 1.0
    while s:
        middle = (low + high) / 2
        if high - low < 1e-12 or not 0 < middle < 1:
            break
        low, high = (middle, high) if _log_e(s, f, middle) >= bar else (low, middle)
    return low


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise VlawError(f"a rate of {rate}", where=WHERE, remedy="Give the rate to compare with, between 0 and 1.")
