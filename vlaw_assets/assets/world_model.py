"""World-model finetuning on all real rollouts so far, co-trained on the broad corpus (Eqs. 1 and 2).

Not here: the network and its loss (vlaw_models/world_models, learn_world_model). An experiment that imagines nothing
needs no finetuned world model: then the one of the iteration before is passed on.
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.loop_state import read_state, real_so_far
from vlaw_assets.assets.stage import POOL, Stage, stage_asset


@stage_asset(group="iteration", deps=("loop_state", "real_rollouts", "autoencoder", "co_training_data",
                                      "expert_demonstrations"),
             modules=code.WORLD_MODEL, pool=POOL, kinds=("pytorch",), checks=(checks.FINITE,))
def world_model(stage: Stage) -> dg.MaterializeResult:
    """The world model, finetuned on D_real (every real rollout so far, failures too) with co-training weight lambda."""
    recipe, state = stage.recipe, read_state(stage)
    config = recipe.world_model
    if recipe.imagine.episodes_per_task == 0 or config.steps == 0:
        with stage.commit("world_model", recipe={"pass_on": True}, parents={"world_model": state.world_model}) as work:
            if work.wanted:
                work.pass_on("world_model")
        return stage.result(work)
    data = (real_so_far(stage, state) if config.use_rollouts
            else {"expert_demonstrations": stage.require_foundation("expert_demonstrations")})
    parents = {"world_model": state.world_model, "autoencoder": stage.require_foundation("autoencoder"),
               "co_training": stage.require_foundation("co_training_data"), **data}
    with stage.commit("world_model", recipe={**recipe.tables("world_model"), "seed": stage.seed}, parents=parents) as work:
        if work.wanted:
            from vlaw_models.learn import finetune_world_model

            episodes = [episode for role in data for episode in work.read(role).episodes(frames=True)]
            log = finetune_world_model(
                work.read("world_model").checkpoint(), work.read("autoencoder").checkpoint(), episodes,
                work.read("co_training").episodes(frames=True), config, work.draft.checkpoint_dir(),
                seed=stage.seed, progress=stage.progress)
            work.learned(log)
    return stage.result(work)
