"""Section 10, of a study with the arm world_vla_loop: the second paper's claims, and it against VLAW.

The policy begins again from the base in every round, as in the paper, so that rounds 1 and 2 are both compared with it.
"""

from __future__ import annotations

from vlaw_assets.reports.study.alignment import EXPLAINED, alignments, told, told_by_seed
from vlaw_assets.reports.study.claims import Claim, difference, not_shown
from vlaw_assets.reports.study.compare import at_least, compare, compare_tasks
from vlaw_assets.reports.study.facts import BASE, VLAW, Facts
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_assets.reports.study.practice import COSTS, OPTIMISM, costs, optimism, savings, unlike_the_paper
from vlaw_assets.reports.study.success import per_seed
from vlaw_assets.reports.study.text import (
    OVER_SEEDS,
    missing,
    over_seeds,
    percent,
    points,
    rates_over_seeds,
    shown,
    table,
    title,
)
from vlaw_models.metrics.stats import t_interval

LOOP, NO_NEAR, NO_HEAD = "world_vla_loop", "world_vla_loop_no_near_success", "world_vla_loop_no_reward_head"
ON_ROBOT, BY_HEAD = "grpo_on_robot", "vlaw_reward_head"
ARMS = (LOOP, NO_NEAR, NO_HEAD, ON_ROBOT, BY_HEAD, VLAW)
ROUNDS = (1, 2)
CLIPS, ABOVE_NO_HEAD = 200, 0.15
INTRODUCTION = (
    "Reinforcement learning by GRPO inside a world model that predicts the reward, at the reported noise. Paper: "
    "[{source}]({url}). Differences and both intervals as in section 2."
)
ABLATIONS = {
    NO_NEAR: "leaves the pairs of success and near-success out of finetuning alone: the pretrained heads that it "
    "begins with learned from such pairs too",
    NO_HEAD: "has no state head either and ends no trajectory early: its row is about all three together",
}
"""What an ablation leaves as it is, or takes away besides what its name says."""


def section(facts: Facts, pictures: Pictures) -> str:
    """'' for a study without the arm."""
    if not any(recipe == LOOP for recipe, _ in facts.wanted) and not facts.seeds(LOOP):
        return ""
    said = paper()["world_vla_loop"]
    rows = [
        [claim.claim, claim.bound, claim.ours, f"{claim.verdict}{f': {claim.why}' if claim.why else ''}"]
        for claim in claims(facts)
    ]
    asked = [arm for arm in ARMS if any(arm == recipe for recipe, _ in facts.wanted)]
    parts = [
        "## 10. World-VLA-Loop",
        INTRODUCTION.format(**said),
        unlike_the_paper(facts, LOOP),
        _picture(facts, pictures),
        _success(facts),
        _differences(facts),
        _ablations(facts),
        _per_task(facts),
        f"{EXPLAINED} Paper: {percent(said['reward_alignment'])} in the mean of its tasks.",
        alignments(facts, ARMS),
        COSTS,
        costs(facts, ARMS),
        savings(facts, ARMS),
        OPTIMISM,
        optimism(facts, ARMS),
        table(["claim", "bound", "ours", "verdict"], rows),
        missing(facts.lacks(asked)),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def claims(facts: Facts) -> list[Claim]:
    said = paper()["world_vla_loop"]
    return [
        _aligned(facts, said["reward_alignment"]),
        _above(facts, NO_HEAD, ABOVE_NO_HEAD, "without the head, by its judge"),
        _above(facts, NO_NEAR, 0.0, "without near-success data"),
        *(_gain(facts, number, goal) for number, goal in enumerate(said["gains"], 1)),
    ]


def _policies(facts: Facts) -> list[tuple[str, int]]:
    """(recipe, iteration) of all that were evaluated, in the order of the tables."""
    found = [(BASE, 0), *((arm, number) for arm in ARMS for number in range(1, facts.last(arm) + 1))]
    return [policy for policy in found if facts.rate(*policy) is not None]


def _picture(facts: Facts, pictures: Pictures) -> str:
    from vlaw_assets.reports.plots import seed_plot

    rates = {title(*policy): list(facts.seed_rates(*policy).values()) for policy in _policies(facts)}
    if not rates:
        return ""
    base = facts.rate(BASE, 0)
    png = seed_plot(rates, base.value if base else None)
    return pictures.add("world_vla_loop", png, "Success per policy: every seed, their mean and its 95 % interval")


def _success(facts: Facts) -> str:
    rows = []
    for recipe, iteration in _policies(facts):
        pooled, seeds = facts.rate(recipe, iteration), facts.seed_rates(recipe, iteration)
        n = f"{pooled.trials} ({len(seeds)})" if pooled else ""
        rows.append([title(recipe, iteration), shown(pooled), rates_over_seeds(seeds.values()), n])
    return table(["policy", "success", OVER_SEEDS, "n (seeds)"], rows)


def _differences(facts: Facts) -> str:
    pairs = [((LOOP, number), (BASE, 0)) for number in (1, 2)]
    pairs += [((LOOP, 2), (LOOP, 1)), *(((LOOP, number), (VLAW, number)) for number in (1, 2))]
    pairs += [((LOOP, 1), (arm, 1)) for arm in ARMS if arm not in (LOOP, VLAW)]
    rows = []
    for first, second in pairs:
        found = compare(facts, first, second)
        if found is not None:
            rows.append(
                [
                    f"{title(*first)} − {title(*second)}",
                    points(found.diff, found.low, found.high),
                    over_seeds(found.over_seeds),
                    per_seed(found),
                    str(found.pairs),
                ]
            )
    return table(["difference", "points [95 %]", OVER_SEEDS, "per seed", "pairs"], rows)


def _ablations(facts: Facts) -> str:
    return " ".join(f"*{title(arm)}* {what}." for arm, what in ABLATIONS.items() if facts.last(arm))


def _per_task(facts: Facts) -> str:
    """Against VLAW, with a sentence on who wins where."""
    rows, said = [], []
    for number in ROUNDS:
        first, second = (LOOP, number), (VLAW, number)
        found = compare_tasks(facts, first, second)
        if not found:
            continue
        name = f"{title(*first)} − {title(*second)}"
        starts = (points(one.diff, one.low, one.high) if (one := found.get(task)) else "" for task in facts.tasks)
        seeds = (over_seeds(one.over_seeds) if (one := found.get(task)) else "" for task in facts.tasks)
        rows += [[name, "starts", *starts], [name, "seeds", *seeds]]
        for sign, policy in ((1, first), (-1, second)):
            won = [task for task, one in found.items() if not not_shown(one, sign)]
            said.append(f"{title(*policy)} in {', '.join(won) or 'no task'}")
    text = table(["difference", "interval over", *facts.tasks], rows)
    return (
        f"The same against VLAW per task, in points. Better where both intervals leave out 0: {'; '.join(said)}. Of so "
        f"many comparisons some leave zero out by chance.\n{text}"
        if text
        else ""
    )


def _aligned(facts: Facts, least: float) -> Claim:
    name, bound = "reward alignment", f"≥ {percent(least)} on ≥ {CLIPS} clips"
    found = told(facts, LOOP)
    if found is None:
        return Claim(name, bound, "", None)
    why = f"{found.trials} clips" if found.trials < CLIPS else "" if found.value >= least else "lower"
    return Claim(name, bound, shown(found, counts=True), not why, why)


def _above(facts: Facts, other: str, least: float, words: str) -> Claim:
    """One alignment above another, on the same clips in every seed; the interval is of the seeds' differences."""
    name = f"reward alignment above that {words}"
    bound = f"by {f'≥ {100 * least:.0f}' if least else '> 0'} points, interval over seeds above 0"
    own, theirs = told(facts, LOOP), told(facts, other)
    if own is None or theirs is None:
        return Claim(name, bound, "", None)
    first, second = told_by_seed(facts, LOOP), told_by_seed(facts, other)
    gaps = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    interval = t_interval(gaps) if len(gaps) > 1 else None
    gap = own.value - theirs.value
    if gap <= 0:
        why = "not above"
    elif not at_least(gap, least):
        why = "less"
    else:
        why = "" if interval is not None and interval.low > 0 else "over seeds"
    ours = f"{100 * gap:+.1f} ({shown(own)} against {shown(theirs)}), over seeds {over_seeds(interval)}"
    return Claim(name, bound, ours, not why, why)


def _gain(facts: Facts, number: int, goal: float) -> Claim:
    name = f"{title(LOOP, number)} − {title(BASE)}"
    bound = f"> 0, both intervals above 0 (goal: the paper's {100 * goal:+.1f})"
    found = compare(facts, (LOOP, number), (BASE, 0))
    if found is None:
        return Claim(name, bound, "", None)
    why = not_shown(found, 1)
    return Claim(name, bound, difference(found), not why, why)
