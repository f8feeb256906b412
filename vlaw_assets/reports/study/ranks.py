"""Section 7: does the world model order policies as the robot does?

VLAW's policies that were both imagined with and evaluated, seed by seed, because every seed has a world model and a
judge of its own. There are few: intervals are wide.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from vlaw_assets.reports.study.facts import Facts, Row
from vlaw_assets.reports.study.pictures import Pictures
from vlaw_assets.reports.study.text import missing, number, proportion, table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.metrics.ranking import Bootstrap

MEASURES = {"pearson": "Pearson's r", "spearman": "Spearman's rho", "mmrv": "mean maximum rank violation (0 is best)"}
SEED = 0


def section(facts: Facts, pictures: Pictures) -> str:
    cells = facts.rows["policy_ranks"]
    policies = pooled(cells)
    parts = [
        "## 7. Ranks of policies, world model against robot",
        (
            "Success of a policy inside the world model (share of imagined episodes with P(yes) above the threshold, "
            "from first frames "
            "of rollouts, demonstrations and co-training data) against its success in evaluation. Every seed has its "
            "own world model and judge."
        ),
        table(
            ["policy", "imagined [95 %]", "real [95 %]"],
            [
                [
                    row["name"],
                    *(proportion(row[f"{side}_successes"], row[f"{side}_trials"]) for side in ("imagined", "real")),
                ]
                for row in policies
            ],
        ),
        _within_seeds(policies),
        _correlations(policies, f"{len(policies)} policies, tasks pooled"),
        _correlations(cells, f"{len(cells)} pairs of policy and task (how hard a task is counts too)"),
    ]
    if cells:
        from vlaw_assets.reports.plots import rank_scatter

        png = rank_scatter(
            [(row["name"], row["task"], row["imagined_rate"], row["real_rate"]) for row in cells],
            [(row["name"], row["imagined_rate"], row["real_rate"]) for row in policies],
        )
        parts.append(pictures.add("ranks", png, "Success of each policy in the world model against reality"))
    else:
        parts.append(missing(["no policy was both imagined with and evaluated"]))
    return "\n\n".join(part.strip("\n") for part in parts if part)


def pooled(cells: list[Row]) -> list[Row]:
    """Per policy and seed, over tasks."""
    found: dict[str, Row] = {}
    for cell in cells:
        row = found.setdefault(
            cell["name"],
            {
                "name": cell["name"],
                "seed": cell["seed"],
                "policy": cell["policy"],
                **dict.fromkeys(
                    (f"{side}_{what}" for side in ("imagined", "real") for what in ("trials", "successes")), 0
                ),
            },
        )
        for key in row:
            if key not in ("name", "seed", "policy"):
                row[key] += cell[key]
    for row in found.values():
        row |= {f"{side}_rate": row[f"{side}_successes"] / row[f"{side}_trials"] for side in ("imagined", "real")}
    return list(found.values())


def _within_seeds(policies: list[Row]) -> str:
    """Does each seed's world model see the change that an update made on the robot?"""
    lines = []
    for seed in dict.fromkeys(row["seed"] for row in policies):
        own = [row for row in policies if row["seed"] == seed]
        for before, after in pairwise(own):
            imagined, real = (100 * (after[f"{side}_rate"] - before[f"{side}_rate"]) for side in ("imagined", "real"))
            lines.append(
                f"- {after['name']}, against the policy before: {imagined:+.1f} points in the world model, "
                f"{real:+.1f} on the robot"
            )
    return "\n".join(lines)


def over_policies(measure: str, rows: list[Row]) -> Bootstrap:
    """A measure of these rows' rates, with its interval over other policies. VlawError where it has no answer, and for
    fewer than three rows."""
    import numpy as np

    from vlaw_models.metrics import ranking

    imagined, real = (np.array([row[f"{side}_rate"] for row in rows]) for side in ("imagined", "real"))
    return ranking.over_policies(measure, imagined, real, np.random.default_rng(SEED))


def _correlations(rows: list[Row], what: str) -> str:
    import numpy as np

    from vlaw_models.metrics import ranking

    if len(rows) < 2:
        return ""
    imagined, real = (
        [np.arange(row[f"{side}_trials"]) < row[f"{side}_successes"] for row in rows] for side in ("imagined", "real")
    )
    lines, problems = [], []
    for measure, label in MEASURES.items():
        try:
            by_trials = ranking.over_trials(measure, imagined, real, np.random.default_rng(SEED))
            by_policies = over_policies(measure, rows) if len(rows) > 2 else None
        except VlawError as error:
            problems.append(f"{label}: {error.what}")
            continue
        lines.append(
            [
                label,
                number(by_trials.value, 2),
                f"[{number(by_trials.low, 2)}, {number(by_trials.high, 2)}]",
                f"[{number(by_policies.low, 2)}, {number(by_policies.high, 2)}]" if by_policies else "",
            ]
        )
    return (
        f"Over {what}:\n"
        + table(["measure", "value", "95 %, other trials", "95 %, other policies"], lines)
        + "".join(f"\nNot defined: {problem}.\n" for problem in problems)
    )
