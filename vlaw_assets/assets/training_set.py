"""What the policy learns from: real successes and imagined episodes judged a success, as weights on episodes.

Here: the weights w of Eq. 4 (all 1 in VLAW) and the threshold alpha, applied at read time. Nothing is copied: a member
names an episode and the artifact that owns it.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets.loop_state import read_state, real_so_far
from vlaw_assets.assets.stage import Stage, stage_asset


@stage_asset(group="iteration", deps=("loop_state", "real_rollouts", "imagined_rollouts", "reward_scores"),
             kinds=("deltalake",), checks=(checks.SCHEMA,))
def training_set(stage: Stage) -> dg.MaterializeResult:
    """D_real+ and D_syn+: successes of every real rollout so far, and imagined episodes with P(yes) > alpha."""
    recipe, state = stage.recipe, read_state(stage)
    real = real_so_far(stage, state)
    parents = {**real, "imagined_rollouts": stage.require("imagined_rollouts"), "reward_scores": stage.require("reward_scores")}
    with stage.commit("training_set", recipe=recipe.tables("score"), parents=parents) as work:
        if work.wanted:
            rows = [_member(episode.episode_id, real[role].owner, "real")
                    for role in real for episode in work.read(role).episodes(frames=False, success=True)]
            work.read("imagined_rollouts")  # its episodes become members below: that is a dependency
            scores = work.read("reward_scores").table("reward_scores").to_pylist()
            rows += [_member(score["episode_id"], parents["imagined_rollouts"].owner, "imagined")
                     for score in scores if score["p_success"] > recipe.score.alpha]
            work.check(checks.members_fit_schema(rows))
            work.draft.write_members(rows)
            work.metrics |= {"real": sum(row["source"] == "real" for row in rows),
                             "imagined": sum(row["source"] == "imagined" for row in rows), "judged": len(scores)}
    metrics = work.draft.ref.metrics
    return stage.result(work, real=metrics.get("real", 0), imagined=metrics.get("imagined", 0))


def _member(episode_id: str, owner: str, source: str) -> dict[str, Any]:
    return {"episode_id": episode_id, "owner": owner, "weight": 1.0, "source": source}
