"""World-model finetuning on all real rollouts so far, co-trained on the broad corpus (Eqs. 1 and 2).

Not here: the network and its loss (vlaw_models/world_models, learn_world_model). An experiment that imagines nothing in
a world model needs no finetuned one: then the one of the iteration before is passed on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import dagster as dg

from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_assets.assets.state import read_state, real_so_far
from vlaw_assets.pipeline import checks
from vlaw_models.errors import VlawError

EXPERT = "expert_demonstrations"


@stage_asset(
    group="iteration",
    deps=("loop_state", "real_rollouts", "autoencoder", "co_training_data", "expert_demonstrations"),
    pool=POOL,
    kinds=("pytorch",),
    checks=(checks.FINITE,),
)
def world_model(stage: Stage) -> dg.MaterializeResult:
    """The world model, finetuned on D_real (every real rollout so far, failures too) with co-training weight lambda."""
    recipe, state = stage.recipe, read_state(stage)
    config = recipe.world_model
    if recipe.imagine.count == 0 or recipe.imagine.world == "simulator" or config.steps == 0:
        with stage.commit(
            "world_model", recipe={"pass_on": True}, parents={"world_model": state.world_model}, chosen_by=state
        ) as work:
            if work.wanted:
                work.pass_on("world_model")
        return stage.result(work)
    data = real_so_far(stage, state) if config.use_rollouts else {EXPERT: stage.require_foundation(EXPERT)}
    parents = {
        "world_model": state.world_model,
        "autoencoder": stage.require_foundation("autoencoder"),
        "co_training": stage.require_foundation("co_training_data"),
        **data,
    }
    with stage.commit(
        "world_model", recipe={**_tables(recipe), "seed": stage.seed}, parents=parents, chosen_by=state
    ) as work:
        if work.wanted:
            from vlaw_models.learners.world_model import finetune_world_model

            if config.use_rollouts:
                episodes = [episode for role in data for episode in work.read(role).episodes(frames=True)]
            else:
                expert = work.read(EXPERT)
                rows = stage.lake.read(parents[EXPERT]).table("episodes").to_pylist()
                chosen = first_of_each(
                    [row for row in rows if row["episode_id"] in expert.available()],
                    recipe.tasks,
                    config.expert_per_task,
                )
                episodes = expert.episodes(frames=True, episode_ids=chosen)
            log = finetune_world_model(
                work.read("world_model").checkpoint(),
                work.read("autoencoder").checkpoint(),
                episodes,
                work.read("co_training").episodes(frames=True),
                config,
                work.draft.checkpoint_dir(),
                seed=stage.seed,
                progress=stage.progress,
            )
            work.metrics["episodes"] = len(episodes)
            work.learned(log)
    return stage.result(work)


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


def _tables(recipe: Any) -> dict[str, Any]:
    """What is read of the recipe: `expert_per_task` and the tasks only where demonstrations are learned from."""
    config = dataclasses.asdict(recipe.world_model)
    if recipe.world_model.use_rollouts:
        del config["expert_per_task"]
        return {"world_model": config}
    return {"world_model": config, "tasks": list(recipe.tasks)}
