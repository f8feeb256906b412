"""Shifts of success: the trials that show what two policies do, by the labels in force and without quarantined ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.shifts.base import MORE, Shift, lengths, paired_rates, rates
from vlaw_assets.reports.shifts.sides import Side
from vlaw_assets.reports.shifts.watching import quoted, watch_sql
from vlaw_assets.reports.success import ALL, Outcomes, outcomes_of

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

Trial = tuple[str, int]
"""(task, seed)."""


@dataclass(frozen=True)
class Evaluation:
    """The trials of one policy."""

    ref: ArtifactRef
    outcomes: Outcomes
    steps: dict[Trial, int]


def evaluation(side: Side) -> Evaluation | None:
    """Of what is asked about, where that is a policy that was evaluated."""
    from vlaw_assets.reports.episodes.choosing import shown_by

    if side.ref.kind != "policy":
        return None
    ref = shown_by(side.lake, side.ref)
    if ref is None or "episodes" not in ref.versions:
        return None
    rows = side.lake.counted(ref).table("episodes").select(["task", "seed", "success", "num_steps"]).to_pylist()
    judged = [row for row in rows if row["success"] is not None]
    steps = {(row["task"], int(row["seed"])): row["num_steps"] for row in judged}
    return Evaluation(side.lake.ledger.get(ref.owner), outcomes_of(judged), steps)


def evaluations(a: Side, b: Side) -> tuple[Evaluation, Evaluation] | None:
    """The evaluations of both; None where one has none, or both have the same."""
    first, second = evaluation(a), evaluation(b)
    return None if first is None or second is None or first.ref.owner == second.ref.owner else (first, second)


def shifts(b: Side, first: Evaluation, second: Evaluation) -> list[Shift]:
    """Success over all tasks first, then per task, then the length of the trials."""
    of = (first.ref.name, second.ref.name)
    assets = (b.ref.asset, second.ref.kind)
    found = []
    for task in [ALL, *dict.fromkeys(task for task, _ in (*first.outcomes, *second.outcomes))]:
        sides = [
            {trial: won for trial, won in side.outcomes.items() if task in (ALL, trial[0])} for side in (first, second)
        ]
        more: dict[str, Any] = {
            "kind": "success",
            "assets": assets,
            "of": of,
            "better": MORE,
            "watch": _watch(b, first, second, task),
        }
        what = f"success: {task}"
        counts = [(sum(side.values()), len(side)) for side in sides]
        found.append(paired_rates(what, *sides, **more) or rates(what, *counts, **more))
    found.append(
        lengths(
            "steps of its trials",
            *([*side.steps.values()] for side in (first, second)),
            kind="length",
            assets=assets,
            of=of,
            watch=_watch(b, first, second, ALL),
        )
    )
    return [shift for shift in found if shift]


def _watch(side: Side, first: Evaluation, second: Evaluation, task: str) -> str:
    """Trials of b that a wins and b does not, or the other way round where there are more of these; else all of b."""
    shared = [trial for trial in first.outcomes.keys() & second.outcomes.keys() if task in (ALL, trial[0])]
    lost = sum(first.outcomes[trial] and not second.outcomes[trial] for trial in shared)
    won = sum(second.outcomes[trial] and not first.outcomes[trial] for trial in shared)
    ours = f"b.artifact_id = {quoted(second.ref.artifact_id)}"
    within = "" if task == ALL else f" AND b.task = {quoted(task)}"
    if not lost and not won:
        return watch_sql(side.lake, f"SELECT episode_id, artifact_id FROM episodes b WHERE {ours}{within}")
    which = "a.success AND NOT b.success" if lost >= won else "b.success AND NOT a.success"
    return watch_sql(
        side.lake,
        f"""SELECT b.episode_id, b.artifact_id FROM episodes a JOIN episodes b USING (task, seed)
        WHERE a.artifact_id = {quoted(first.ref.artifact_id)} AND {ours}{within}
        AND {which} AND NOT a.quarantined AND NOT b.quarantined""",
    )
