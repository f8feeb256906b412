"""Section 1: the gates that say where the loop can lose what, each with its bound, and what passing or failing means.

Five figures of the first iteration. Bounds are those that small studies of this loop led to; they were set before the
study.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlaw_assets.reports.study.compare import compare
from vlaw_assets.reports.study.facts import BASE, FILTERED_BC, ORACLE, TRUE_LABELS, VLAW, Facts, Row
from vlaw_assets.reports.study.text import missing, percent, points, proportion, shown, table
from vlaw_assets.reports.success import ALL

BASE_RANGE = (0.30, 0.55)
ORACLE_GAIN = 0.08
RESCUED = {4: 0.60, 8: 0.80}
"""Tries per failed start -> share of them that these are to rescue: with fewer tries perfect imagination misses most of
them too."""
PRECISION, TIMES_BASE_RATE = 0.70, 2.0
NEAR_ORACLE = -0.05


@dataclass(frozen=True)
class Gate:
    name: str
    value: str
    bound: str
    passed: bool | None
    """None: the study cannot tell."""
    meaning: str

    @property
    def verdict(self) -> str:
        return "cannot be told" if self.passed is None else "passed" if self.passed else "**not passed**"


def section(facts: Facts) -> str:
    found = gates(facts)
    rows = [[gate.name, gate.value, gate.bound, gate.verdict, gate.meaning] for gate in found]
    text = (
        table(["gate", "value [95 %]", "bound", "verdict", "what it means"], rows)
        or "\nNone of them was measured yet.\n"
    )
    return (
        "## 1. Gates\n\nFrom the first iteration, all seeds together; success in per cent, differences in points. "
        "They were to be "
        f"passed before the claims mean anything.\n{text}"
        f"{missing(facts.lacks([FILTERED_BC, ORACLE, TRUE_LABELS, VLAW], 1) + _unmeasured(facts))}"
    )


def gates(facts: Facts) -> list[Gate]:
    """Those that can be computed."""
    return [
        gate for gate in (_base(facts), _oracle(facts), _coverage(facts), _labels(facts), _privileged(facts)) if gate
    ]


def totals(rows: list[Row]) -> tuple[int, int]:
    """(successes, trials) over seeds: of rows over all tasks where a seed has one, else of its tasks."""
    pooled = [row for row in rows if row["task"] == ALL]
    rows = pooled + [row for row in rows if row["seed"] not in {one["seed"] for one in pooled}]
    return sum(row["successes"] or 0 for row in rows), sum(row["trials"] or 0 for row in rows)


def _base(facts: Facts) -> Gate | None:
    found = facts.rate(BASE, 0)
    if found is None:
        return None
    low, high = BASE_RANGE
    meaning = (
        "It fails often enough to leave room and succeeds often enough to learn from."
        if low <= found.value <= high
        else "It fails so often that there are few successes to learn from."
        if found.value < low
        else "It is so good that little is left to gain."
    )
    return Gate(
        "success of the base",
        shown(found, counts=True),
        f"{percent(low, 0)} to {percent(high, 0)}",
        low <= found.value <= high,
        meaning,
    )


def _oracle(facts: Facts) -> Gate | None:
    found = compare(facts, (ORACLE, 1), (FILTERED_BC, 1))
    if found is None:
        return None
    passed = found.diff >= ORACLE_GAIN
    return Gate(
        "oracle † − filtered BC at its best stop",
        points(found.diff, found.low, found.high),
        f"≥ {100 * ORACLE_GAIN:+.0f}",
        passed,
        "Perfect imagination gains enough to be measured: the loop can win."
        if passed
        else "Even perfect imagination gains little here: starts, updates or capacity of the policy are the limit, "
        "not the world model.",
    )


def _coverage(facts: Facts) -> Gate | None:
    rows = facts.select("coverage", recipe=VLAW, iteration=1)
    by_tries = {
        number: totals([row for row in rows if row["first_tries"] == number])
        for number in sorted({row["first_tries"] for row in rows if row["first_tries"]})
    }
    every = [row for row in rows if row["first_tries"] is None]
    successes, trials = totals(every)
    if not trials:
        return None
    tries = sum(row["tries"] for row in every if row["task"] == ALL) / trials
    first = "".join(f"; by the first {number}: {proportion(*found)}" for number, found in by_tries.items())
    best, of = totals(facts.select("coverage", recipe=ORACLE, iteration=1, first_tries=None))
    ceiling = f"; oracle † {proportion(best, of)}" if of else ""
    bounds = {number: bound for number, bound in RESCUED.items() if number in by_tries}
    passed = all(by_tries[number][0] / by_tries[number][1] >= bound for number, bound in bounds.items())
    return Gate(
        "failed real starts with a true imagined success",
        f"{proportion(successes, trials)}; {tries:.1f} tries per start{first}{ceiling}",
        ", ".join(f"≥ {percent(bound, 0)} by {number} tries" for number, bound in RESCUED.items()),
        passed if bounds else None,
        f"With fewer than {min(RESCUED)} tries per start perfect imagination misses most of them too: compare with the "
        f"oracle."
        if not bounds
        else "Failures are chance: from most failed starts the same policy can succeed."
        if passed
        else "Many failures are systematic, or the world model is untrue there: imagination finds too little that is "
        "true to learn.",
    )


def _labels(facts: Facts) -> Gate | None:
    rows = facts.select("labels", recipe=VLAW, iteration=1)
    kept, true = (sum(row[key] for row in rows) for key in ("kept", "kept_true"))
    if not kept:
        return None
    base_rate = sum(row["true_successes"] for row in rows) / sum(row["imagined"] for row in rows)
    precise, useful = true / kept >= PRECISION, true / kept >= TIMES_BASE_RATE * base_rate
    meaning = (
        "What the policy learns from is mostly true, and far truer than unfiltered imagination."
        if precise and useful
        else "Labels are true often enough, but imagination is true nearly as often without the judge: the filter "
        "adds little."
        if precise
        else "Too many accepted episodes would fail on the robot: world model and judge together are too optimistic."
    )
    return Gate(
        "precision of the labels of imagined episodes",
        f"{proportion(true, kept)}; base rate {percent(base_rate)}",
        f"≥ {percent(PRECISION, 0)} and ≥ {TIMES_BASE_RATE:g} × base rate",
        precise and useful,
        meaning,
    )


def _privileged(facts: Facts) -> Gate | None:
    found = compare(facts, (TRUE_LABELS, 1), (ORACLE, 1))
    if found is None:
        return None
    passed = found.diff >= NEAR_ORACLE
    return Gate(
        "imagined, true labels † − oracle †",
        points(found.diff, found.low, found.high),
        f"≥ {100 * NEAR_ORACLE:+.0f}",
        passed,
        "With true labels imagined episodes teach about as much as real ones: their frames are good enough."
        if passed
        else "Even with true labels imagined episodes teach less than real ones: their frames are the problem.",
    )


def _unmeasured(facts: Facts) -> list[str]:
    gone = []
    if not facts.select("coverage", recipe=VLAW, iteration=1):
        gone.append("coverage of failed starts: no imagined_outcomes of vlaw, iteration 1")
    if not facts.select("labels", recipe=VLAW, iteration=1):
        gone.append("precision of labels: no imagined_outcomes of vlaw, iteration 1")
    return gone
