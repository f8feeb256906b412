"""World-model finetuning on all real rollouts so far, co-trained on the broad corpus (Eqs. 1 and 2).

An experiment that imagines nothing in a world model needs no finetuned one: then the one of the iteration before is
passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.encoded import NEAR, latents_for, read_latents
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state, real_so_far
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.loop_roles import REAL
from vlaw_assets.pipeline import checks
from vlaw_models.config import identifying
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Recipe
    from vlaw_models.episodes import Episode

EXPERT = "expert_demonstrations"


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    parents = {"world_model": state.world_model}
    if _passed_on(recipe):
        return Plan(kind="world_model", recipe={"pass_on": True}, parents=parents, chosen_by=state.ref)
    data = real_so_far(stage, state) if recipe.world_model.use_rollouts else {EXPERT: stage.require_foundation(EXPERT)}
    parents |= {
        "autoencoder": stage.require_foundation("autoencoder"),
        "co_training": stage.require_foundation("co_training_data"),
        **({NEAR: stage.require_foundation(NEAR)} if recipe.world_model.near_success else {}),
        **data,
        **latents_for(stage, data if recipe.world_model.use_rollouts else {}, corpora=True),
    }
    tables = {**_tables(recipe), "seed": stage.seed}
    if stage.robot.motion is not None:  # which poses it learns from
        tables["robot"] = stage.robot.identity()
    return Plan(kind="world_model", recipe=tables, parents=parents, chosen_by=state.ref)


def make(stage: Stage, plan: Plan, work: Work) -> None:
    if _passed_on(stage.recipe):
        work.pass_on("world_model")
        return
    from vlaw_models.learners.world_model import finetune_world_model
    from vlaw_models.world_models.latents import conditioned

    episodes, others = _episodes(stage, work), work.read("co_training").source()
    near = list(work.read(NEAR).source()) if NEAR in work.parents else []
    log = stage.train(
        work,
        finetune_world_model,
        work.read("world_model").checkpoint(),
        work.read("autoencoder").checkpoint(),
        list(conditioned(episodes, stage.robot)),
        conditioned([*others, *near] if near else others, stage.robot),
        stage.recipe.world_model,
        work.draft.checkpoint_dir(),
        seed=stage.seed,
        latents=read_latents(work),
        checkpoints=stage.checkpoints(work),
        progress=stage.progress,
    )
    work.metrics["episodes"] = len(episodes)
    if near:
        work.metrics[NEAR] = len(near)
    work.learned(log)


def _passed_on(recipe: Recipe) -> bool:
    return not recipe.needs_world_model or recipe.world_model.steps == 0


def _episodes(stage: Stage, work: Work) -> list[Episode]:
    """D_real so far, or the first demonstrations of every task."""
    recipe = stage.recipe
    if recipe.world_model.use_rollouts:
        roles = [role for role in work.parents if role.startswith(REAL)]
        return [episode for role in roles for episode in work.read(role).source()]
    expert = work.read(EXPERT)
    rows = stage.lake.read(work.parents[EXPERT]).table("episodes").to_pylist()
    present = [row for row in rows if row["episode_id"] in expert.available()]
    chosen = first_of_each(present, recipe.tasks, recipe.world_model.expert_per_task)
    return list(expert.source(episode_ids=chosen))


def first_of_each(rows: Sequence[dict[str, Any]], tasks: Sequence[str], per_task: int) -> set[str]:
    """Ids of the first `per_task` episodes of every task, in the order recorded. VlawError where there are fewer."""
    found: set[str] = set()
    for task in tasks:
        ids = [row["episode_id"] for row in rows if row["task"] == task][:per_task]
        if len(ids) < per_task:
            raise VlawError(
                f"[world_model] expert_per_task = {per_task}, but the foundation has {len(ids)} demonstrations of "
                f"{task}",
                where="world_model with use_rollouts = false",
                remedy="Raise demonstrations_per_task in foundation.toml and materialize expert_demonstrations "
                "again, or lower "
                "expert_per_task.",
            )
        found.update(ids)
    return found


def _tables(recipe: Recipe) -> dict[str, Any]:
    """What is read of the recipe: `expert_per_task` and the tasks only where demonstrations are learned from."""
    config = identifying(recipe.world_model)
    if recipe.world_model.use_rollouts:
        del config["expert_per_task"]
        return {"world_model": config}
    return {"world_model": config, "tasks": list(recipe.tasks)}


world_model = stage_asset(
    "world_model",
    "The world model, finetuned on D_real (every real rollout so far, failures too) with co-training weight lambda.",
    plan=plan,
    make=make,
    group="iteration",
    deps=(
        "loop_state",
        "real_rollouts",
        "autoencoder",
        "co_training_data",
        NEAR,
        "expert_demonstrations",
        "latents",
        "corpus_latents",
    ),
    pool=POOL,
    kinds=("pytorch",),
    checks=(checks.FINITE,),
)
