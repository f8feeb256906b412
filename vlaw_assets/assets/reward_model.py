"""Reward-model finetuning on labelled real rollouts: in the first iteration only, as the paper does.

Not here: the judge and its question (vlaw_models/rewards). Later iterations pass the finetuned judge on unchanged.
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.loop_state import read_state
from vlaw_assets.assets.stage import POOL, Stage, stage_asset


@stage_asset(group="iteration", deps=("loop_state", "real_rollouts"), modules=code.REWARD_MODEL, pool=POOL,
             kinds=("pytorch",), checks=(checks.FINITE,))
def reward_model(stage: Stage) -> dg.MaterializeResult:
    """The judge of success, finetuned on this experiment's first real rollouts with their labels."""
    recipe, state = stage.recipe, read_state(stage)
    if stage.iteration > 1 or recipe.reward_model.steps == 0:
        with stage.commit("reward_model", recipe={"pass_on": True}, parents={"reward_model": state.reward_model}) as work:
            if work.wanted:
                work.pass_on("reward_model")
        return stage.result(work)
    parents = {"reward_model": state.reward_model, "real_rollouts": stage.require("real_rollouts")}
    with stage.commit("reward_model", recipe={**recipe.tables("reward_model"), "seed": stage.seed}, parents=parents) as work:
        if work.wanted:
            from vlaw_models.learn import finetune_reward_model

            log = finetune_reward_model(
                work.read("reward_model").checkpoint(), work.read("real_rollouts").episodes(frames=True),
                recipe.reward_model, work.draft.checkpoint_dir(), seed=stage.seed, progress=stage.progress)
            work.learned(log)
    return stage.result(work)
