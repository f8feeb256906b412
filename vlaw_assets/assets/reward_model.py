"""Reward-model finetuning on labelled real rollouts: in the first iteration only, as the paper does.

Later iterations pass the finetuned judge on unchanged.
"""

from __future__ import annotations

from vlaw_assets.assets.encoded import latents_for, read_latents
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks
from vlaw_models.config import SAMPLING


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    parents = {"reward_model": state.reward_model}
    if _passed_on(stage):
        return Plan(kind="reward_model", recipe={"pass_on": True}, parents=parents, chosen_by=state.ref)
    tables = {**recipe.tables("reward_model"), "seed": stage.seed}
    parents["real_rollouts"] = stage.require("real_rollouts")
    if recipe.reward_model.replays:
        # The world model of before: it has not seen these rollouts, as it will not have seen what it imagines next.
        parents |= {"world_model": state.world_model, "autoencoder": stage.require_foundation("autoencoder")}
        parents |= latents_for(stage, {"real_rollouts": parents["real_rollouts"]})
        imagine = recipe.tables("imagine")["imagine"]
        sampling = {key: imagine[key] for key in SAMPLING if key in imagine}
        tables["replay"] = {"num_steps": recipe.rollouts.num_steps, **sampling}
        tables["robot"] = stage.robot.identity()
    return Plan(kind="reward_model", recipe=tables, parents=parents, chosen_by=state.ref)


def make(stage: Stage, plan: Plan, work: Work) -> None:
    if _passed_on(stage):
        work.pass_on("reward_model")
        return
    from vlaw_models.config import WorldModelMetricsConfig
    from vlaw_models.learners.reward_model import finetune_reward_model
    from vlaw_models.rollouts.replay import replay
    from vlaw_models.sources import ScratchEpisodes

    config = stage.recipe.reward_model
    rollouts = work.read("real_rollouts").source(judged=True)
    replays = ScratchEpisodes()
    if config.replays:
        for batch in replay(
            work.read("world_model").checkpoint(),
            work.read("autoencoder").checkpoint(),
            rollouts,
            WorldModelMetricsConfig(**plan.recipe["replay"]),
            robot=stage.robot,
            seed=stage.seed,
            latents=read_latents(work),
        ):
            replays.append(batch)
    log = stage.train(
        work,
        finetune_reward_model,
        work.read("reward_model").checkpoint(),
        rollouts,
        config,
        work.draft.checkpoint_dir(),
        seed=stage.seed,
        replays=replays,
        checkpoints=stage.checkpoints(work),
        progress=stage.progress,
    )
    work.learned(log)


def _passed_on(stage: Stage) -> bool:
    return stage.iteration > 1 or stage.recipe.reward_model.steps == 0


reward_model = stage_asset(
    "reward_model",
    "The judge of success, finetuned on this experiment's first real rollouts with their labels.",
    plan=plan,
    make=make,
    group="iteration",
    deps=("loop_state", "real_rollouts", "autoencoder", "latents", "corpus_latents"),
    pool=POOL,
    kinds=("pytorch",),
    checks=(checks.FINITE,),
)
