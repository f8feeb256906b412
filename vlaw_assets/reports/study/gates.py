"""Section 1: the gates that say where the loop can lose what, each with its bound, and what passing or failing means.

Here those of policies on the robot; those of what is imagined are gates_inside.py's. Bounds are those that small
studies of this loop led to; they were set before the study.
"""

from __future__ import annotations

from vlaw_assets.reports.study import gates_inside
from vlaw_assets.reports.study.compare import Comparison, at_least, compare, compare_trials
from vlaw_assets.reports.study.facts import BASE, FILTERED_BC, ORACLE, TRUE_LABELS, VLAW, Facts
from vlaw_assets.reports.study.gate import Gate, unmeasured
from vlaw_assets.reports.study.text import missing, over_seeds, percent, points, shown, table, title

BASE_RANGE = (0.30, 0.55)
ORACLE_GAIN = 0.08
NEAR_ORACLE = -0.03
FORGOTTEN = -0.05
"""Of any task, against the base: less is forgetting."""


def section(facts: Facts) -> str:
    rows = [[gate.name, gate.value, gate.bound, gate.verdict, gate.meaning] for gate in gates(facts)]
    return (
        "## 1. Gates\n\nFrom the first iteration, all seeds together, where a gate says nothing else; success in per "
        "cent, differences in points, intervals over starts as in section 2. They were to be passed before the claims "
        f"mean anything.\n{table(['gate', 'value [95 %]', 'bound', 'verdict', 'what it means'], rows)}"
        f"{missing(facts.lacks([FILTERED_BC, ORACLE, TRUE_LABELS, VLAW], 1))}"
    )


def gates(facts: Facts) -> list[Gate]:
    """All of them, measured or not."""
    return [
        _base(facts),
        gates_inside.base(facts),
        _oracle(facts),
        gates_inside.coverage(facts),
        *gates_inside.labels(facts),
        _privileged(facts),
        gates_inside.correlation(facts),
        *_forgetting(facts),
    ]


def _base(facts: Facts) -> Gate:
    found, (low, high) = facts.rate(BASE, 0), BASE_RANGE
    name, bound = "success of the base", f"{percent(low, 0)} to {percent(high, 0)}"
    if found is None:
        return unmeasured(facts, name, bound, VLAW)
    meaning = (
        "It fails often enough to leave room and succeeds often enough to learn from."
        if low <= found.value <= high
        else "It fails so often that there are few successes to learn from."
        if found.value < low
        else "It is so good that little is left to gain."
    )
    return Gate(name, shown(found, counts=True), bound, low <= found.value <= high, meaning)


def _oracle(facts: Facts) -> Gate:
    name, bound = "oracle † − filtered BC at its best stop", f"≥ {100 * ORACLE_GAIN:+.0f}"
    found = compare(facts, (ORACLE, 1), (FILTERED_BC, 1))
    if found is None:
        return unmeasured(facts, name, bound, ORACLE, FILTERED_BC)
    passed = at_least(found.diff, ORACLE_GAIN)
    meaning = (
        "Perfect imagination gains enough to be measured: the loop can win."
        if passed
        else "Even perfect imagination gains little here: starts, updates or capacity of the policy are the limit, "
        "not the world model."
    )
    return Gate(name, _difference(found), bound, passed, meaning)


def _privileged(facts: Facts) -> Gate:
    name, bound = "imagined, true labels † − oracle †", f"≥ {100 * NEAR_ORACLE:+.0f}"
    found = compare(facts, (TRUE_LABELS, 1), (ORACLE, 1))
    if found is None:
        return unmeasured(facts, name, bound, TRUE_LABELS, ORACLE)
    passed = at_least(found.diff, NEAR_ORACLE)
    meaning = (
        "With true labels imagined episodes teach about as much as real ones: their frames are good enough."
        if passed
        else "Even with true labels imagined episodes teach less than real ones: their frames are the problem."
    )
    return Gate(name, _difference(found), bound, passed, meaning)


def _forgetting(facts: Facts) -> list[Gate]:
    """The worst task of both main arms after their last iteration; an arm of which nothing is known stands alone."""
    name, bound = "worst task against the base, last iteration", f"≥ {100 * FORGOTTEN:+.0f} in every task"
    found: dict[str, Comparison] = {}
    gone = []
    base = facts.outcomes(BASE, 0)
    for recipe in (FILTERED_BC, VLAW):
        last = facts.last(recipe)
        trials = facts.outcomes(recipe, last) if last else {}
        of_tasks = {
            f"{title(recipe, last)}, {task}": compare_trials(
                *({key: won for key, won in side.items() if key[2] == task} for side in (trials, base))
            )
            for task in facts.tasks
        }
        known = {label: one for label, one in of_tasks.items() if one is not None}
        found |= known
        if not known:
            gone.append(unmeasured(facts, f"{name}: {title(recipe)}", bound, recipe, what="evaluation"))
    if not found:
        return gone
    worst, one = min(found.items(), key=lambda item: item[1].diff)
    passed = at_least(one.diff, FORGOTTEN)
    meaning = (
        "What the base could do, the updates keep."
        if passed
        else "The updates lose what the base could do in a task: more rehearsal or other stops are needed."
    )
    return [Gate(name, f"{worst}: {_difference(one)}", bound, passed, meaning), *gone]


def _difference(found: Comparison) -> str:
    return f"{points(found.diff, found.low, found.high)}; over seeds {over_seeds(found.over_seeds)}"
