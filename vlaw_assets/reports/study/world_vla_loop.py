"""Section 10, of a study with the arm world_vla_loop: the second paper's claims, and it against VLAW.

Reward alignment is how often what a world model tells of replayed actions is what the robot's outcome was: told by its
reward head, or by the judge of its pictures where it has none. The policy begins again from the base in every round, as
in the paper, so that rounds 1 and 2 are both compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlaw_assets.reports.study.claims import Claim, difference, not_shown
from vlaw_assets.reports.study.compare import at_least, compare
from vlaw_assets.reports.study.facts import BASE, VLAW, Facts, Row
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.success import per_seed
from vlaw_assets.reports.study.text import (
    OVER_SEEDS,
    hours,
    missing,
    over_seeds,
    percent,
    points,
    rates_over_seeds,
    shown,
    table,
    title,
)
from vlaw_assets.reports.success import Rate, rate

LOOP, NO_NEAR, NO_HEAD = "world_vla_loop", "world_vla_loop_no_near_success", "world_vla_loop_no_reward_head"
ON_ROBOT, BY_HEAD = "grpo_on_robot", "vlaw_reward_head"
ARMS = (LOOP, NO_NEAR, NO_HEAD, ON_ROBOT, BY_HEAD, VLAW)
HEAD, JUDGE = "head", "judge"
CLIPS, ABOVE_NO_HEAD = 200, 0.15
INTRODUCTION = (
    "Reinforcement learning by GRPO inside a world model that predicts the reward, at the reported noise. Paper: "
    "[{source}]({url}). Differences and both intervals as in section 2."
)
ALIGNMENT = (
    "Reward alignment: of held-out clips replayed in the world model that iteration 1 made, how many it tells right, "
    "in per cent; all seeds together."
)
COSTS = (
    "What it took up to each iteration, mean over seeds; measurements count for nothing, and what another arm made "
    "first counts in full. A frame is all cameras at one control step."
)
OPTIMISM = (
    "Imagined minus real success, in points, mean over seeds with its interval: of arms that practise in the world "
    "model the mean reward of the last tenth of their RL steps against the evaluation of the policy that came of "
    "them; of the others what the scores accept against the evaluation of the policy that acts there."
)


def section(facts: Facts) -> str:
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
        _success(facts),
        _differences(facts),
        f"{ALIGNMENT} Paper: {percent(said['reward_alignment'])} in the mean of its tasks.",
        _alignment(facts),
        COSTS,
        _costs(facts),
        OPTIMISM,
        _optimism(facts),
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


def told(facts: Facts, recipe: str) -> Rate | None:
    """How often the world models of an arm's first iteration tell the outcome right, all seeds together, at the
    recipe's threshold: by their head, or by the judge where they have none. None where it was not measured."""
    rows = facts.select("alignment", recipe=recipe, iteration=1, model="made")
    by = HEAD if any(row["told_by"] == HEAD for row in rows) else JUDGE
    own = _at_the_recipes_threshold([row for row in rows if row["told_by"] == by])
    clips = sum(row["clips"] for row in own)
    return rate(sum(row["right"] for row in own), clips) if clips else None


def _at_the_recipes_threshold(rows: list[Row]) -> list[Row]:
    """Without those at 0.5, the plain answer, which every judge has besides."""
    highest = {seed: max(row["threshold"] for row in rows if row["seed"] == seed) for seed in {r["seed"] for r in rows}}
    return [row for row in rows if row["threshold"] == highest[row["seed"]]]


def _success(facts: Facts) -> str:
    policies = [(BASE, 0), *((arm, number) for arm in ARMS for number in range(1, facts.last(arm) + 1))]
    rows = []
    for recipe, iteration in policies:
        pooled, seeds = facts.rate(recipe, iteration), facts.seed_rates(recipe, iteration)
        if pooled is not None:
            n = f"{pooled.trials} ({len(seeds)})"
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


def _alignment(facts: Facts) -> str:
    rows = []
    for recipe in ARMS:
        found = facts.select("alignment", recipe=recipe, iteration=1, model="made")
        for by, threshold in sorted({(row["told_by"], row["threshold"]) for row in found}):
            own = [row for row in found if (row["told_by"], row["threshold"]) == (by, threshold)]
            right, clips = (sum(row[key] for row in own) for key in ("right", "clips"))
            counts = ", ".join(f"{key} {sum(row[key] for row in own)}" for key in ("tp", "fn", "fp", "tn"))
            rows.append([title(recipe), f"{by} > {threshold:g}", shown(rate(right, clips)), counts, str(clips)])
    return table(["world model of", "told by", "alignment", "counts", "clips"], rows)


def _costs(facts: Facts) -> str:
    rows = []
    for name, own in _iterations(facts, "costs"):
        mean = {key: sum(row[key] for row in own) / len(own) for key in own[0] if key not in ("recipe", "seed")}
        counts = (f"{mean[key]:,.0f}" for key in ("real_rollouts", "imagined_rollouts", "imagined_frames"))
        rows.append([name, *counts, hours(mean["seconds"])])
    return table(["policy", "real rollouts", "imagined rollouts", "imagined frames", "work, one thread"], rows)


def _optimism(facts: Facts) -> str:
    rows = []
    for name, own in _iterations(facts, "optimism"):
        means = (percent(sum(row[key] for row in own) / len(own)) for key in ("imagined", "real"))
        rows.append([name, *means, rates_over_seeds([row["optimism"] for row in own])])
    return table(["iteration", "imagined", "real", f"difference, {OVER_SEEDS}"], rows)


def _iterations(facts: Facts, question: str) -> Iterator[tuple[str, list[Row]]]:
    """Of each arm's iterations that the question has rows of: its title, and these rows, one per seed."""
    for recipe in ARMS:
        for iteration in range(1, facts.last(recipe) + 1):
            if own := facts.select(question, recipe=recipe, iteration=iteration):
                yield title(recipe, iteration), own


def _aligned(facts: Facts, least: float) -> Claim:
    name, bound = "reward alignment", f"≥ {percent(least)} on ≥ {CLIPS} clips"
    found = told(facts, LOOP)
    if found is None:
        return Claim(name, bound, "", None)
    why = f"{found.trials} clips" if found.trials < CLIPS else "" if found.value >= least else "lower"
    return Claim(name, bound, shown(found, counts=True), not why, why)


def _above(facts: Facts, other: str, least: float, words: str) -> Claim:
    """One alignment above another; both on the clips of the same seeds, so that intervals of the two are no test."""
    name = f"reward alignment above that {words}"
    bound = f"by ≥ {100 * least:.0f} points" if least else "> 0"
    own, theirs = told(facts, LOOP), told(facts, other)
    if own is None or theirs is None:
        return Claim(name, bound, "", None)
    gap = own.value - theirs.value
    why = "" if gap > 0 and at_least(gap, least) else "less" if gap > 0 else "not above"
    return Claim(name, bound, f"{100 * gap:+.1f} ({shown(own)} against {shown(theirs)})", not why, why)


def _gain(facts: Facts, number: int, goal: float) -> Claim:
    name = f"{title(LOOP, number)} − {title(BASE)}"
    bound = f"> 0, both intervals above 0 (goal: the paper's {100 * goal:+.1f})"
    found = compare(facts, (LOOP, number), (BASE, 0))
    if found is None:
        return Claim(name, bound, "", None)
    why = not_shown(found, 1)
    return Claim(name, bound, difference(found), not why, why)
