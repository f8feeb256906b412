"""The gates of what is imagined: whether the base acts there as on the robot, which failures it mends, how true its
labels are, and whether it tells a better policy from a worse one.

True outcomes of imagined episodes are the simulator's (`imagined_outcomes`): privileged, used only to measure.
"""

from __future__ import annotations

from vlaw_assets.reports.study.compare import ROUNDING, at_least
from vlaw_assets.reports.study.facts import ORACLE, VLAW, Facts, Row
from vlaw_assets.reports.study.gate import Gate, unmeasured
from vlaw_assets.reports.study.ranks import over_policies, pooled
from vlaw_assets.reports.study.text import number, percent, points, proportion, seeds_text
from vlaw_assets.reports.success import ALL
from vlaw_models.errors import VlawError
from vlaw_models.metrics.stats import t_interval

BASE_APART = 0.05
"""Success of the base inside the world model and on the robot: at most so far apart, either way."""
RESCUED = {4: 0.60, 8: 0.80}
"""Tries per failed start -> share of them that these are to rescue: with fewer tries perfect imagination misses most of
them too."""
PRECISION, TIMES_BASE_RATE, KEPT = 0.80, 2.0, 60
POLICIES, PEARSON, PEARSON_LOW = 10, 0.8, 0.4
LABELS = "precision of the labels of imagined episodes"


def base(facts: Facts) -> Gate:
    """Of the same starts, each counting once, whatever the number of tries from it."""
    name = "success of the base, inside the world model − on the robot, same starts"
    bound = f"within ±{100 * BASE_APART:.0f}"
    rows = facts.select("base_inside", recipe=VLAW)
    if not rows:
        return unmeasured(facts, name, bound, VLAW)
    starts, tries = (sum(row[key] for row in rows) for key in ("starts", "tries"))
    inside = sum(row["inside_rate"] * row["starts"] for row in rows) / starts
    robot = sum(row["robot_successes"] for row in rows) / starts
    apart = inside - robot
    spread = points(*t_interval([row["difference"] for row in rows])) if len(rows) > 1 else "one seed"
    untried = sum(row["untried"] for row in rows)
    passed = None if untried else abs(apart) <= BASE_APART + ROUNDING
    meaning = (
        f"Imagination began at failures first and left out {untried} real starts: these are not like the others."
        if untried
        else "What the policy does inside the world model truly succeeds as often as what it does on the robot."
        if passed
        else "What the policy does inside the world model truly succeeds more often than what it does on the robot: it "
        "does not see there what misleads it here."
        if apart > 0
        else "What the policy does inside the world model truly succeeds less often than what it does on the robot: it "
        "is misled by what it sees there."
    )
    rates = f"{percent(inside)} − {percent(robot)}; {starts} starts, {tries} tries"
    value = f"{100 * apart:+.1f} ({rates}); over seeds {spread}"
    return Gate(name, value, bound, passed, meaning)


def coverage(facts: Facts) -> Gate:
    name = "failed real starts with a true imagined success"
    bound = ", ".join(f"≥ {percent(bound, 0)} by {number} tries" for number, bound in RESCUED.items())
    rows = facts.select("coverage", recipe=VLAW, iteration=1)
    by_tries = {
        number: totals([row for row in rows if row["first_tries"] == number])
        for number in sorted({row["first_tries"] for row in rows if row["first_tries"]})
    }
    every = [row for row in rows if row["first_tries"] is None]
    successes, trials = totals(every)
    if not trials:
        return unmeasured(facts, name, bound, VLAW)
    tries = sum(row["tries"] for row in every if row["task"] == ALL) / trials
    first = "".join(f"; by the first {number}: {proportion(*found)}" for number, found in by_tries.items())
    best, of = totals(facts.select("coverage", recipe=ORACLE, iteration=1, first_tries=None))
    ceiling = f"; oracle † {proportion(best, of) if of else 'not measured'}"
    bounds = {number: least for number, least in RESCUED.items() if number in by_tries}
    passed = all(by_tries[number][0] / by_tries[number][1] >= least for number, least in bounds.items())
    meaning = (
        f"With fewer than {min(RESCUED)} tries per start perfect imagination misses most of them too: compare with the "
        f"oracle."
        if not bounds
        else "Failures are chance: from most failed starts the same policy can succeed."
        if passed
        else "Many failures are systematic, or the world model is untrue there: imagination finds too little that is "
        "true to learn."
    )
    value = f"{proportion(successes, trials)}; {tries:.1f} tries per start{first}{ceiling}"
    return Gate(name, value, bound, passed if bounds else None, meaning)


def totals(rows: list[Row]) -> tuple[int, int]:
    """(successes, trials) over seeds: of rows over all tasks where a seed has one, else of its tasks."""
    whole = [row for row in rows if row["task"] == ALL]
    rows = whole + [row for row in rows if row["seed"] not in {one["seed"] for one in whole}]
    return sum(row["successes"] or 0 for row in rows), sum(row["trials"] or 0 for row in rows)


def labels(facts: Facts) -> list[Gate]:
    """Precision of the first iteration, and how many are kept in each; iterations without labels stand alone."""
    bound = (
        f"≥ {percent(PRECISION, 0)} and ≥ {TIMES_BASE_RATE:g} × base rate, ≥ {KEPT} kept in every iteration and seed"
    )
    every = facts.select("labels", recipe=VLAW)
    rows = [row for row in every if row["iteration"] == 1]
    if not rows:
        return [unmeasured(facts, LABELS, bound, VLAW)]
    kept, true = (sum(row[key] for row in rows) for key in ("kept", "kept_true"))
    base_rate = sum(row["true_successes"] for row in rows) / sum(row["imagined"] for row in rows)
    fewest = min(every, key=lambda row: (row["kept"], row["iteration"], row["seed"]))
    precise, useful = (kept > 0 and true / kept >= least for least in (PRECISION, TIMES_BASE_RATE * base_rate))
    enough = fewest["kept"] >= KEPT
    meaning = (
        "Too many accepted episodes would fail on the robot: world model and judge together are too optimistic."
        if kept and not precise
        else "Labels are true often enough, but imagination is true nearly as often without the judge: the filter "
        "adds little."
        if kept and not useful
        else "The judge keeps too few episodes to learn from."
        if not enough
        else "What the policy learns from is mostly true, and far truer than unfiltered imagination."
    )
    value = (
        f"{proportion(true, kept) or 'none kept'}; base rate {percent(base_rate)}; fewest kept {fewest['kept']} "
        f"(iteration {fewest['iteration']}, seed {fewest['seed']})"
    )
    return [Gate(LABELS, value, bound, precise and useful and enough, meaning), *_unlabelled(facts, every, bound)]


def _unlabelled(facts: Facts, rows: list[Row], bound: str) -> list[Gate]:
    """Of every iteration that the study asks for and of which some seed's labels were not measured."""
    there = {(row["seed"], row["iteration"]) for row in rows}
    gone: dict[int, list[int]] = {}
    for (recipe, seed), last in facts.wanted.items():
        for iteration in range(1, last + 1) if recipe == VLAW else ():
            if (seed, iteration) not in there:
                gone.setdefault(iteration, []).append(seed)
    return [
        unmeasured(facts, f"{LABELS}: iteration {at}, seed {seeds_text(seeds)}", bound, VLAW, what=f"iteration {at}")
        for at, seeds in sorted(gone.items())
    ]


def correlation(facts: Facts) -> Gate:
    """Pearson's r of section 7 over policies, tasks pooled, each policy in the world model of its seed."""
    name = "Pearson's r of success in the world model and on the robot, all iterations"
    bound = f"≥ {PEARSON:g}, lower bound > {PEARSON_LOW:g}, over ≥ {POLICIES} policies"
    policies = pooled(facts.rows["policy_ranks"])
    if not policies:
        return unmeasured(facts, name, bound, VLAW, what="evaluation and imagination")
    n, different = len(policies), len({row["policy"] for row in policies})
    over = f"{n} policies in the world models of their seeds, {different} of them different"
    try:
        found = over_policies("pearson", policies)
    except VlawError as error:
        return Gate(name, f"over {over}", bound, None, f"It is not defined: {error.what}.")
    value = f"{number(found.value, 2)} [{number(found.low, 2)}, {number(found.high, 2)}] over {over}"
    if n < POLICIES:
        return Gate(name, value, bound, None, "So few policies say little: more seeds or more iterations are needed.")
    passed = at_least(found.value, PEARSON) and found.low > PEARSON_LOW
    meaning = (
        "A policy that is better inside the world model is better on the robot."
        if passed
        else "Success inside the world model says too little of success on the robot: do not choose policies by it."
    )
    return Gate(name, value, bound, passed, meaning)
