"""The policy update: weighted flow matching on the training set (Eq. 4).

Not here: the loss (vlaw_models/learn_policy) and which episodes count (training_set.py). With nothing to learn from,
the policy is passed on and says so.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.loop_state import read_state, real_so_far
from vlaw_assets.assets.stage import POOL, Stage, Work, stage_asset


@stage_asset(group="iteration", deps=("loop_state", "training_set", "real_rollouts", "imagined_rollouts", "base_policy"),
             modules=code.POLICY, pool=POOL, kinds=("pytorch",), checks=(checks.FINITE,))
def policy(stage: Stage) -> dg.MaterializeResult:
    """The next policy: finetuned on real and imagined successes."""
    recipe, state = stage.recipe, read_state(stage)
    config = recipe.policy
    start = stage.require_foundation("base_policy") if config.start == "base" else state.policy
    real = real_so_far(stage, state) if config.use_real else {}
    parents = {"policy": start, "training_set": stage.require("training_set"), **real,
               "imagined_rollouts": stage.require("imagined_rollouts")}
    with stage.commit("policy", recipe={**recipe.tables("policy"), "seed": stage.seed}, parents=parents) as work:
        if work.wanted:
            members = {row["episode_id"] for row in work.read("training_set").members().to_pylist() if row["weight"] > 0}
            own = [episode for role in real for episode in _members_of(work, role, members)]
            imagined = _members_of(work, "imagined_rollouts", members)
            work.metrics |= {"real": len(own), "imagined": len(imagined)}
            if not (own or imagined) or config.steps == 0:
                stage.context.log.warning("there is nothing to learn from: the policy is passed on unchanged")
                work.pass_on("policy")
            else:
                from vlaw_models.learn import finetune_policy

                log = finetune_policy(work.read("policy").checkpoint(), own, imagined, config,
                                      work.draft.checkpoint_dir(), seed=stage.seed, progress=stage.progress)
                work.show("what it learned from", (own[:2] + imagined[:2]))
                work.learned(log)
    metrics = work.draft.ref.metrics
    return stage.result(work, real=metrics.get("real", 0), imagined=metrics.get("imagined", 0),
                        passed_on=bool(metrics.get("passed_on")))


def _members_of(work: Work, role: str, members: set[str]) -> list[Any]:
    """The parent's episodes that are members of the training set, with their frames."""
    return work.read(role).episodes(frames=True, episode_ids=members)
