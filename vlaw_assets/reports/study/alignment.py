"""Reward alignment: how often what a world model tells of replayed actions is what the robot's outcome was.

Told by its reward head, or by the judge of its pictures where it has none. What counts is the threshold above which the
arm's recipe counts a success; what else was measured stands beside it, named as what it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlaw_assets.reports.study.facts import Facts, Row
from vlaw_assets.reports.study.text import shown, table, title
from vlaw_assets.reports.success import Rate, rate

HEAD, JUDGE = "head", "judge"
SUCCESS, ENDS, BESIDE = "success", "end of a trajectory", "for comparison"
EXPLAINED = (
    "Reward alignment: of held-out clips replayed in the world model that iteration 1 made, how many it tells right, "
    "in per cent; all seeds together. The threshold named *success* is the recipe's, above which the arm counts a "
    "success, and the one that the claims below are about; above that named *end of a trajectory* imagination stops."
)


def told(facts: Facts, recipe: str) -> Rate | None:
    """How often the world models of an arm's first iteration tell the outcome right, all seeds together, at the
    recipe's success threshold: by their head, or by the judge where they have none. None where it was not measured."""
    return _right(_deciding(facts, recipe))


def told_by_seed(facts: Facts, recipe: str) -> dict[int, float]:
    """The same per seed, where it was measured."""
    return {row["seed"]: row["alignment"] for row in _deciding(facts, recipe) if row["clips"]}


def alignments(facts: Facts, arms: Sequence[str]) -> str:
    """A row per arm, teller and threshold."""
    rows = []
    for recipe in arms:
        found = _measured(facts, recipe)
        for by, threshold in sorted({(row["told_by"], row["threshold"]) for row in found}):
            own = [row for row in found if (row["told_by"], row["threshold"]) == (by, threshold)]
            counts = ", ".join(f"{key} {sum(row[key] for row in own)}" for key in ("tp", "fn", "fp", "tn"))
            kind = _kind(facts, recipe, own, its_own=by == _teller(found))
            clips = str(sum(row["clips"] for row in own))
            rows.append([title(recipe), f"{by} > {threshold:g}", kind, shown(_right(own)), counts, clips])
    return table(["world model of", "told by", "threshold of", "alignment", "counts", "clips"], rows)


def _measured(facts: Facts, recipe: str) -> list[Row]:
    return facts.select("alignment", recipe=recipe, iteration=1, model="made")


def _deciding(facts: Facts, recipe: str) -> list[Row]:
    found = _measured(facts, recipe)
    return [row for row in found if row["told_by"] == _teller(found) and row["decides"]]


def _teller(rows: Sequence[Row]) -> str:
    return HEAD if any(row["told_by"] == HEAD for row in rows) else JUDGE


def _right(rows: Sequence[Row]) -> Rate | None:
    clips = sum(row["clips"] for row in rows)
    return rate(sum(row["right"] for row in rows), clips) if clips else None


def _kind(facts: Facts, recipe: str, rows: Sequence[Row], *, its_own: bool) -> str:
    """What a threshold is to the arm; `its_own`: of what tells its successes."""
    if its_own and all(row["decides"] for row in rows):
        return SUCCESS
    if its_own and any(row["decides"] for row in rows):
        return f"{SUCCESS} in some seeds"
    ends = (facts.recipe(recipe) or {}).get("imagine", {}).get("done_above")
    return ENDS if its_own and rows[0]["threshold"] == ends else BESIDE
