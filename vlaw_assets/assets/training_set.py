"""What the policy learns from: real and imagined episodes, as weights on episodes.

Here: which episodes are members, and the weight w of Eq. 4 of each, made at read time; nothing is copied, a member
names an episode and the artifact that owns it. Not here: the arithmetic of advantages
(vlaw_models/learners/advantages.py), the update.

- 'filtered' (and 'dsrl', which reads the real rollouts themselves): successes, and imagined episodes with P(yes) >
  alpha; all 1.
- 'awr': every episode, with w = exp(A / beta), of mean 1 over the real members and over the imagined ones (Eqs. 7, 11).
- 'recap': every episode, with weight 1; where the advantage is not positive the source is "real_negative" or
  "imagined_negative", which is what the update conditions on. An imagined episode's return is 1 where P(yes) > alpha,
  else 0: with P(yes) itself an unlikely success would be called good wherever the policy succeeds more rarely still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.loop_roles import REAL
from vlaw_assets.assets.stage import Plan, Stage, Work
from vlaw_assets.assets.stage_asset import stage_asset
from vlaw_assets.assets.state import read_state, real_so_far
from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

EVERY = ("awr", "recap")
"""Updates that learn from every episode, by its advantage."""


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    update = recipe.policy.update
    real = real_so_far(stage, state)
    # Labels "simulator" are privileged: true outcomes of imagined actions, written as scores of 1 and 0.
    scored = "imagined_outcomes" if recipe.score.labels == "simulator" else "reward_scores"
    parents = {**real, "imagined_rollouts": stage.require("imagined_rollouts"), "reward_scores": stage.require(scored)}
    tables = recipe.tables("score")
    if update in EVERY:  # beta is a temperature of 'awr', which has no threshold
        tables = {"score": {"labels": recipe.score.labels}, "policy": {"update": update}}
        if update == "awr":
            tables["policy"]["beta"] = recipe.policy.beta
        else:
            tables["score"]["alpha"] = recipe.score.alpha
    return Plan(kind="training_set", recipe=tables, parents=parents)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    real = {role: ref for role, ref in work.parents.items() if role.startswith(REAL)}
    rows = (_by_advantage if stage.recipe.policy.update in EVERY else _successes)(stage, work, real)
    work.check(checks.members_fit_schema(rows))
    work.draft.write_members(rows)
    work.metrics |= {kind: sum(row["source"].startswith(kind) for row in rows) for kind in ("real", "imagined")}


def show(_stage: Stage, _plan: Plan, ref: ArtifactRef) -> Mapping[str, Any]:
    return {"real": ref.metrics.get("real", 0), "imagined": ref.metrics.get("imagined", 0)}


def _successes(stage: Stage, work: Work, real: Mapping[str, ArtifactRef]) -> list[dict[str, Any]]:
    rows = [
        _member(episode.episode_id, real[role].owner, "real")
        for role in real
        for episode in work.read(role).episodes(frames=False, success=True)
    ]
    work.read("imagined_rollouts")  # its episodes become members below: that is a dependency
    scores = work.read("reward_scores").table("reward_scores").to_pylist()
    work.metrics["judged"] = len(scores)
    return rows + [
        _member(score["episode_id"], work.parents["imagined_rollouts"].owner, "imagined")
        for score in scores
        if score["p_success"] > stage.recipe.score.alpha
    ]


def _by_advantage(stage: Stage, work: Work, real: Mapping[str, ArtifactRef]) -> list[dict[str, Any]]:
    from vlaw_models.learners.advantages import advantages, awr_weights, positive, values

    # Every member's weight stands on the outcomes of all the others: no edge of scope 'rows'.
    episodes = {role: work.read(role, by_row=False).episodes(frames=False) for role in real}
    work.read("imagined_rollouts", by_row=False)
    scores = work.read("reward_scores", by_row=False).table("reward_scores").to_pylist()
    newest = f"{REAL}_{stage.iteration:02d}"
    outcomes = {role: [(e.task, bool(e.success)) for e in found] for role, found in episodes.items()}
    value = values(outcomes[newest], [pair for role in sorted(outcomes) if role != newest for pair in outcomes[role]])
    work.metrics |= {"judged": len(scores), "value": value}
    awr, alpha = stage.recipe.policy.update == "awr", stage.recipe.score.alpha
    rows = []
    for source, found in (
        (
            "real",
            [(e.episode_id, real[role].owner, e.task, float(bool(e.success))) for role in real for e in episodes[role]],
        ),
        (
            "imagined",
            [
                (
                    s["episode_id"],
                    work.parents["imagined_rollouts"].owner,
                    s["task"],
                    s["p_success"] if awr else float(s["p_success"] > alpha),
                )
                for s in scores
            ],
        ),
    ):
        returns, tasks = [row[3] for row in found], [row[2] for row in found]
        advantage = advantages(returns, tasks, value)
        if awr:
            rows += [
                _member(*row[:2], source, float(weight))
                for row, weight in zip(found, awr_weights(advantage, stage.recipe.policy.beta), strict=True)
            ]
        else:
            rows += [
                _member(*row[:2], source if good else f"{source}_negative")
                for row, good in zip(found, positive(returns, advantage), strict=True)
            ]
    return rows


def _member(episode_id: str, owner: str, source: str, weight: float = 1.0) -> dict[str, Any]:
    return {"episode_id": episode_id, "owner": owner, "weight": weight, "source": source}


training_set = stage_asset(
    "training_set",
    "D_real and D_syn as the policy update takes them; in VLAW real successes, and imagined ones with P(yes) > alpha.",
    plan=plan,
    make=make,
    show=show,
    group="iteration",
    deps=("loop_state", "real_rollouts", "imagined_rollouts", "reward_scores", "imagined_outcomes"),
    kinds=("deltalake",),
    checks=(checks.SCHEMA,),
)
