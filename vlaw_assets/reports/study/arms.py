"""Sections 5 and 6: Figure 9, every other arm against VLAW after one iteration, and what imagination is worth in real
rollouts.

Paired differences on the same seeds and starts; the main arms over two iterations are section 2 (success.py).
"""

from __future__ import annotations

from vlaw_assets.reports.study.compare import Comparison, compare, compare_trials
from vlaw_assets.reports.study.facts import BASE, HALF, MORE_REAL, NO_REAL, NOISES, VLAW, Facts
from vlaw_assets.reports.study.paper import paper
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_assets.reports.study.success import heading, per_seed
from vlaw_assets.reports.study.text import (
    NOTE,
    OVER_SEEDS,
    missing,
    number,
    over_seeds,
    percent,
    points,
    shown,
    table,
    title,
)
from vlaw_assets.reports.success import Rate, rate


def figure_9(facts: Facts, pictures: Pictures) -> str:
    """Section 5."""
    said = paper()["figure_9"]
    parts = [
        "## 5. Ablations (Figure 9) and all other arms",
        (
            f"After one iteration, against VLAW on the same seeds and starts. Paper ({said['source']}): "
            f"{said['half_synthetic']}; "
            f"{said['no_real']}. Intervals over starts and over seeds as in section 2. Each stands alone: of so many "
            "comparisons some leave zero out by chance. Half the imagined episodes "
            "are those from the first half of the starts, so that more of them begin at failed rollouts than in VLAW."
        ),
    ]
    for noise in NOISES:
        rows, drawn = [], {}
        for recipe, iteration in _others(facts, noise):
            found = compare(facts, (recipe, iteration), (VLAW, 1), noise)
            if found is not None:
                name = title(recipe, privileged=recipe in facts.privileged)
                drawn[name] = found
                rows.append(_row(name, recipe, found))
        text = table(
            [
                "arm",
                "success",
                "VLAW 1 on the same",
                "difference, points [95 %]",
                OVER_SEEDS,
                "won alone",
                "McNemar p",
                "per seed",
                "pairs",
            ],
            rows,
        )
        parts.append(f"### {heading(facts, noise)}\n{text or chr(10) + 'Nothing to compare yet.'}")
        if drawn:
            parts.append(_picture(pictures, f"arms_{noise}", drawn))
    wanted = dict.fromkeys([HALF, NO_REAL, *(recipe for recipe, _ in facts.wanted if recipe != MORE_REAL)])
    parts += [NOTE, missing(facts.lacks(list(wanted), 1))]
    return "\n\n".join(part.strip("\n") for part in parts if part)


def price(facts: Facts, pictures: Pictures) -> str:
    """Section 6."""
    rows: list[list[str]] = []
    lines: dict[int, list[tuple[int, Rate]]] = {}
    for row in facts.select("real_rollouts", recipe=MORE_REAL):
        goal = facts.goal(MORE_REAL, row["seed"])
        own = rate(row["successes"], row["trials"])
        lines.setdefault(row["seed"], []).append((row["real_rollouts"], own))
        verdict = "" if goal is None else "yes" if own.value >= goal.value else "no"
        against = _against_goal(facts, row["seed"], row["iteration"])
        rows.append(
            [
                str(row["seed"]),
                str(row["iteration"]),
                str(row["real_rollouts"]),
                shown(own),
                shown(goal),
                points(against.diff, against.low, against.high) if against else "",
                verdict,
            ]
        )
    parts = [
        "## 6. The price of imagination in real rollouts",
        (
            "Filtered behaviour cloning that is given more real rollouts, until its success reaches what VLAW of the "
            "same seed has at the end. "
            "It ends at the first of several noisy looks that does, so the price is more likely too low than too "
            "high. Trials that choose stopping "
            "points are not counted as rollouts, in no arm."
        ),
        table(
            ["seed", "iteration", "real rollouts", "success [95 %]", "VLAW at the end", "difference [95 %]", "reached"],
            rows,
        ),
    ]
    parts += ["\n".join(f"- {_verdict(facts, seed)}" for seed in lines)]
    if lines:
        from vlaw_assets.reports.plots import budget_curves

        ends = {seed: _end(facts, seed) for seed in lines}
        png = budget_curves(lines, {seed: end for seed, end in ends.items() if end})
        parts.append(pictures.add("real_rollouts", png, "Success after each number of real rollouts, and VLAW's"))
    parts.append(missing(facts.lacks([MORE_REAL])))
    return "\n\n".join(part.strip("\n") for part in parts if part)


def _others(facts: Facts, noise: str) -> list[tuple[str, int]]:
    """Figure 9's arms first, then the rest, the base last."""
    rest = [
        policy
        for policy in facts.policies(noise)
        if policy[1] == 1 and policy[0] not in (VLAW, MORE_REAL, HALF, NO_REAL)
    ]
    return [(HALF, 1), (NO_REAL, 1), *rest, (BASE, 0)]


def _row(name: str, recipe: str, found: Comparison) -> list[str]:
    return [
        name,
        percent(found.first),
        percent(found.second),
        points(found.diff, found.low, found.high),
        over_seeds(found.over_seeds),
        f"{found.only_first} / {found.only_second}",
        number(found.p_value),
        per_seed(found),
        str(found.pairs),
    ]


def _verdict(facts: Facts, seed: int) -> str:
    goal, at = facts.goal(MORE_REAL, seed), facts.matched(MORE_REAL, seed)
    found = {
        row["iteration"]: row["real_rollouts"] for row in facts.select("real_rollouts", recipe=MORE_REAL, seed=seed)
    }
    if goal is None:
        return f"seed {seed}: VLAW has no evaluation to match yet"
    spent = _end(facts, seed)
    own = f", VLAW used {spent[0]}" if spent else ""
    if at is None or at not in found:
        return f"seed {seed}: not matched after {max(found.values())} real rollouts{own}"
    return f"seed {seed}: matched after {found[at]} real rollouts{own}"


def _against_goal(facts: Facts, seed: int, iteration: int) -> Comparison | None:
    """An iteration of the arm minus what it is to match, on the same starts."""
    sides = ((MORE_REAL, iteration), (VLAW, facts.last(VLAW)))
    return compare_trials(
        *({key: won for key, won in facts.outcomes(*side).items() if key[0] == seed} for side in sides)
    )


def _end(facts: Facts, seed: int) -> tuple[int, Rate] | None:
    """Real rollouts and success of VLAW's last iteration at a seed."""
    rows = facts.select("real_rollouts", recipe=VLAW, seed=seed)
    return (rows[-1]["real_rollouts"], rate(rows[-1]["successes"], rows[-1]["trials"])) if rows else None


def _picture(pictures: Pictures, name: str, drawn: dict[str, Comparison]) -> str:
    from vlaw_assets.reports.plots import difference_plot

    png = difference_plot(
        {label: (one.diff, one.low, one.high) for label, one in drawn.items()}, "success − VLAW 1, points"
    )
    return pictures.add(name, png, "Difference of every arm to VLAW after one iteration, with 95 % intervals")
