"""Shifts of the judge: how much it accepts, and how often its yes is true, where the truth was measured.

Of the last scores that each side's models stand on. What an episode truly is: the label in force, else what the
simulator played (imagined_outcomes), or what the robot's world said (clips). Quarantined episodes are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.shifts.base import LESS, MORE, Shift, paired_rates, rates
from vlaw_assets.reports.shifts.sides import Side, measured_by, parent
from vlaw_assets.reports.shifts.watching import quoted, watch_sql

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

ASSETS = ("reward_model", "reward_scores", "training_set", "imagined_rollouts", "world_model", "labels")
"""Stages of which a change may directly change what is said of imagined episodes."""
LEAST_TRUE = 0.5
SCORES = "reward_scores"


@dataclass(frozen=True)
class Verdicts:
    """What a judge says, and what is true."""

    scores: ArtifactRef
    alpha: float
    said: dict[str, bool]
    """Episode -> accepted."""
    true: dict[str, bool]
    """Of the episodes whose outcome is known."""
    truth: ArtifactRef | None


def shifts(a: Side, b: Side) -> list[Shift]:
    """Of imagined episodes, then of real clips."""
    return [*_imagined(a, b), *_clips(a, b)]


def _imagined(a: Side, b: Side) -> list[Shift]:
    first, second = _verdicts(a), _verdicts(b)
    if first is None or second is None or (first.scores.owner == second.scores.owner and first.alpha == second.alpha):
        return []
    of = (first.scores.name, second.scores.name)
    accepted = [(sum(side.said.values()), len(side.said)) for side in (first, second)]
    more: dict[str, Any] = {"kind": "judge", "assets": ASSETS, "of": of}
    yes = _watch(b, second, "p_success > {alpha}", accepted[1][0])
    found = [rates("judge: share it accepts", *accepted, **more, watch=yes)]
    cells = [
        [(side.said[name], side.true[name]) for name in side.said.keys() & side.true.keys()] for side in (first, second)
    ]
    wrong = _watch(b, second, "p_success > {alpha}", cells[1].count((True, False)), true=False)
    missed = _watch(b, second, "p_success <= {alpha}", cells[1].count((False, True)), true=True)
    for what, of_these, hit, better, watch in (
        ("judge: precision of its yes", lambda said, _true: said, lambda _said, true: true, MORE, wrong),
        ("judge: false positives", lambda _said, true: not true, lambda said, _true: said, LESS, wrong),
        ("judge: recall", lambda _said, true: true, lambda said, _true: said, MORE, missed),
        ("imagined episodes truly successful", lambda *_: True, lambda _said, true: true, MORE, missed),
    ):
        counts = [
            (sum(hit(*cell) for cell in side if of_these(*cell)), sum(of_these(*cell) for cell in side))
            for side in cells
        ]
        found.append(rates(what, *counts, **more, better=better, watch=watch))
    return [shift for shift in found if shift]


def _verdicts(side: Side) -> Verdicts | None:
    """Of the last training set's scores."""
    dataset = side.last("training_set", key="asset")
    scores = parent(side.lake, side.get(dataset), SCORES) if dataset else None
    if dataset is None or scores is None or scores.asset != SCORES:
        return None
    alpha = dataset["recipe"].get("score", {}).get("alpha")
    imagined = parent(side.lake, scores, "imagined_rollouts")
    if alpha is None or imagined is None:
        return None
    handle = side.lake.counted(imagined)
    held = handle.available()
    said = {
        row["episode_id"]: row["p_success"] > alpha
        for row in side.lake.read(scores).table(SCORES).to_pylist()
        if row["episode_id"] in held
    }
    truth = _truth(side, imagined, scores)
    played = side.lake.read(truth).table(SCORES).to_pylist() if truth else []
    true = {row["episode_id"]: row["p_success"] > LEAST_TRUE for row in played} | {
        name: success for name, success in handle.labels.items() if success is not None
    }
    return Verdicts(scores, alpha, said, true, truth)


def _truth(side: Side, imagined: ArtifactRef, scores: ArtifactRef) -> ArtifactRef | None:
    """The outcomes that the simulator played for these imagined episodes; those held against these scores first."""
    ref = measured_by(side.lake, scores, SCORES, "imagined_outcomes", SCORES)
    return ref or measured_by(side.lake, imagined, "imagined_rollouts", "imagined_outcomes", SCORES)


def _watch(side: Side, verdicts: Verdicts, where: str, count: int, *, true: bool | None = None) -> str:
    """Episodes of b on which the judge says so, and of which the simulator says `true`."""
    if not count or (true is not None and verdicts.truth is None):
        return ""
    condition = "s." + where.format(alpha=repr(verdicts.alpha))
    columns, scored = "s.episode_id, s.owner", f"s.artifact_id = {quoted(verdicts.scores.owner)}"
    if true is None or verdicts.truth is None:
        return watch_sql(side.lake, f"SELECT {columns} FROM reward_scores s WHERE {scored} AND {condition}")
    return watch_sql(
        side.lake,
        f"""SELECT {columns} FROM reward_scores s JOIN reward_scores t USING (episode_id)
        WHERE {scored} AND t.artifact_id = {quoted(verdicts.truth.owner)}
        AND {condition} AND t.p_success {">" if true else "<="} {LEAST_TRUE}""",
    )


def _clips(a: Side, b: Side) -> list[Shift]:
    """The last judges on real clips of known outcome; paired where the clips are the same."""
    judged = [_judged(side) for side in (a, b)]
    (first, second), found = judged, []
    if first is None or second is None or first[0].owner == second[0].owner:
        return []
    (ref_a, said_a, true_a), (ref_b, said_b, true_b) = first, second
    more: dict[str, Any] = {
        "kind": "judge",
        "assets": ("reward_model", "labels", ref_b.asset),
        "of": (ref_a.name, ref_b.name),
    }
    for what, value, better in (("false positives", False, LESS), ("recall", True, MORE)):
        sides = [
            {name: said[name] for name in said.keys() & true.keys() if true[name] is value}
            for said, true in ((said_a, true_a), (said_b, true_b))
        ]
        wrong = sorted(name for name, yes in sides[1].items() if yes is not value)
        more["watch"] = (
            watch_sql(
                b.lake, f"SELECT episode_id FROM episodes WHERE episode_id IN ({', '.join(map(quoted, wrong[:20]))})"
            )
            if wrong
            else ""
        )
        name = f"judge on real clips: {what}"
        if sides[0].keys() == sides[1].keys():
            found.append(paired_rates(name, *sides, better=better, **more))
        else:
            found.append(rates(name, *((sum(side.values()), len(side)) for side in sides), better=better, **more))
    return [shift for shift in found if shift]


def _judged(side: Side) -> tuple[ArtifactRef, dict[str, bool], dict[str, bool]] | None:
    """(measurement, clip -> verdict at the recipe's alpha, clip -> success) of the side's last judge."""
    judge = side.last("reward_model")
    ref = measured_by(side.lake, side.get(judge), "reward_model", "reward_model_metrics", SCORES) if judge else None
    if ref is None:
        return None
    clips = parent(side.lake, ref, "clips")
    alpha = json.loads(ref.recipe_json or "{}").get("score", {}).get("alpha")
    if clips is None or alpha is None:
        return None
    rows = side.lake.counted(clips).table("episodes").select(["episode_id", "success"]).to_pylist()
    true = {row["episode_id"]: row["success"] for row in rows if row["success"] is not None}
    said = {row["episode_id"]: row["p_success"] > alpha for row in side.lake.read(ref).table(SCORES).to_pylist()}
    return ref, said, true
