"""Reward-model finetuning on labelled real rollouts: in the first iteration only, as the paper does.

Not here: the judge and its question (vlaw_models/reward_models). Later iterations pass the finetuned judge on
unchanged.
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_assets.assets.state import read_state
from vlaw_assets.pipeline import checks


@stage_asset(
    group="iteration",
    deps=("loop_state", "real_rollouts", "autoencoder"),
    pool=POOL,
    kinds=("pytorch",),
    checks=(checks.FINITE,),
)
def reward_model(stage: Stage) -> dg.MaterializeResult:
    """The judge of success, finetuned on this experiment's first real rollouts with their labels."""
    recipe, state = stage.recipe, read_state(stage)
    if stage.iteration > 1 or recipe.reward_model.steps == 0:
        with stage.commit(
            "reward_model", recipe={"pass_on": True}, parents={"reward_model": state.reward_model}, chosen_by=state
        ) as work:
            if work.wanted:
                work.pass_on("reward_model")
        return stage.result(work)
    config = recipe.reward_model
    tables = {**recipe.tables("reward_model"), "seed": stage.seed}
    parents = {"reward_model": state.reward_model, "real_rollouts": stage.require("real_rollouts")}
    if config.replays:
        # The world model of before: it has not seen these rollouts, as it will not have seen what it imagines next.
        parents |= {"world_model": state.world_model, "autoencoder": stage.require_foundation("autoencoder")}
        tables["replay"] = {"num_steps": recipe.rollouts.num_steps, "sampling_steps": recipe.imagine.sampling_steps}
    with stage.commit("reward_model", recipe=tables, parents=parents, chosen_by=state) as work:
        if work.wanted:
            from vlaw_models.config import WorldModelMetricsConfig
            from vlaw_models.learners.reward_model import finetune_reward_model
            from vlaw_models.rollouts.replay import replay

            rollouts = work.read("real_rollouts").episodes(frames=True)
            replays = (
                replay(
                    work.read("world_model").checkpoint(),
                    work.read("autoencoder").checkpoint(),
                    rollouts,
                    WorldModelMetricsConfig(**tables["replay"]),
                    seed=stage.seed,
                )
                if config.replays
                else []
            )
            log = finetune_reward_model(
                work.read("reward_model").checkpoint(),
                rollouts,
                config,
                work.draft.checkpoint_dir(),
                seed=stage.seed,
                replays=replays,
                progress=stage.progress,
            )
            work.learned(log)
    return stage.result(work)
