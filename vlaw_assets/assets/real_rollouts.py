"""Real rollouts: the policy on the robot (VLAW Algorithm 1, line 3), and held-out ones that nothing is trained on.

Here: rolling out on the embedded robot. Not here: the robot itself (vlaw_models/robots), episodes recorded by people
(importers), evaluation (evaluation.py).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import dagster as dg

from vlaw_assets.assets.stage import POOL, Stage, Work, stage_asset
from vlaw_assets.assets.state import read_state
from vlaw_assets.pipeline import checks
from vlaw_assets.recipes import HELD_OUT_SEEDS
from vlaw_models.robots.tabletop.renderer import renderer_name


@stage_asset(
    group="iteration",
    deps=("loop_state",),
    pool=POOL,
    kinds=("deltalake", "lance"),
    checks=(*checks.EPISODES, checks.VARIES),
)
def real_rollouts(stage: Stage) -> dg.MaterializeResult:
    """Episodes of the policy that this iteration starts with, successes and failures, labelled by the world."""
    recipe, state = stage.recipe, read_state(stage)
    tables = {
        **recipe.tables("rollouts"),
        "tasks": list(recipe.tasks),
        "seed": recipe.seed,
        "iteration": stage.iteration,
        "renderer": renderer_name(),
    }
    with stage.commit("real_rollouts", recipe=tables, parents={"policy": state.policy}, chosen_by=state) as work:
        if work.wanted:
            from vlaw_models.rollouts.collect import collect_rollouts

            episodes = collect_rollouts(
                work.read("policy").checkpoint(),
                recipe.tasks,
                recipe.rollouts,
                iteration=stage.iteration,
                seed=recipe.seed,
                progress=stage.progress,
            )
            _keep(stage, work, episodes, recipe.rollouts.episodes_per_task, "rollout")
            work.check(checks.success_varies(e.success for e in episodes))
    return stage.result(work, successes=work.draft.ref.metrics.get("successes", 0))


@stage_asset(group="evaluation", deps=("loop_state",), pool=POOL, kinds=("deltalake", "lance"), checks=checks.EPISODES)
def validation_rollouts(stage: Stage) -> dg.MaterializeResult:
    """Held-out real episodes with every frame: the clips on which world model and reward model are measured.

    Their starts are those of an experiment seed that no recipe may have, so nothing is ever trained on them.
    """
    recipe, state = stage.recipe, read_state(stage)
    metrics = recipe.world_model_metrics
    config = dataclasses.replace(recipe.rollouts, episodes_per_task=metrics.clips_per_task, num_steps=metrics.num_steps)
    tables = {
        "validation": dataclasses.asdict(config),
        "tasks": list(recipe.tasks),
        "seed": recipe.seed,
        "iteration": stage.iteration,
        "renderer": renderer_name(),
    }
    with stage.commit("validation_rollouts", recipe=tables, parents={"policy": state.policy}, chosen_by=state) as work:
        if work.wanted:
            from vlaw_models.rollouts.collect import collect_rollouts

            episodes = collect_rollouts(
                work.read("policy").checkpoint(),
                recipe.tasks,
                config,
                iteration=stage.iteration,
                seed=HELD_OUT_SEEDS + recipe.seed,
                progress=stage.progress,
            )
            _keep(stage, work, episodes, config.episodes_per_task, "validation")
    return stage.result(work)


def _keep(stage: Stage, work: Work, episodes: list[Any], per_task: int, purpose: str) -> None:
    """Checks the episodes, then writes them with the policy that made them."""
    tasks = stage.recipe.tasks
    work.check(
        checks.episodes_fit_schema(episodes, tasks=tasks, judged=True),
        checks.all_finite(episodes),
        checks.counts_as_asked((e.task for e in episodes), dict.fromkeys(tasks, per_task)),
    )
    work.draft.write_episodes(
        episodes, purpose=purpose, world="tabletop", policy=work.parents["policy"].content_digest, world_model=""
    )
    work.metrics["successes"] = sum(bool(e.success) for e in episodes)
    work.show("one episode of every task", [next(e for e in episodes if e.task == task) for task in tasks if per_task])
