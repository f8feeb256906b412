"""The scripted corpora that every experiment starts from. Unpartitioned.

Not here: the experts (vlaw_models/rollouts/demonstrate.py), the checkpoints (foundation.py).
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_assets.pipeline import checks
from vlaw_assets.recipes import TASKS
from vlaw_models.robots.tabletop.renderer import renderer_name


@stage_asset(group="foundation", checks=checks.EPISODES, kinds=("deltalake", "lance"), pool=POOL)
def expert_demonstrations(stage: Stage) -> dg.MaterializeResult:
    """Episodes of the scripted experts, what the base policy was warm-started on the like of; all five tasks."""
    return _scripted(stage, "demonstration", stage.foundation.demonstrations_per_task)


@stage_asset(group="foundation", checks=checks.EPISODES, kinds=("deltalake", "lance"), pool=POOL)
def co_training_data(stage: Stage) -> dg.MaterializeResult:
    """A broad corpus of mixed quality: the world model is finetuned on it too, with weight lambda (Eq. 2)."""
    return _scripted(stage, "co_training", stage.foundation.co_training_per_task)


def _scripted(stage: Stage, purpose: str, count: int) -> dg.MaterializeResult:
    seed = stage.foundation.seed
    recipe = {
        "purpose": purpose,
        "count_per_task": count,
        "seed": seed,
        "tasks": list(TASKS),
        "renderer": renderer_name(),
    }
    with stage.commit("scripted_episodes", recipe=recipe, parents={}) as work:
        if work.wanted:
            from vlaw_models.rollouts.demonstrate import collect_demonstrations

            episodes = collect_demonstrations(TASKS, count, purpose=purpose, seed=seed, progress=stage.progress)
            work.check(
                checks.episodes_fit_schema(episodes, tasks=TASKS, judged=True),
                checks.all_finite(episodes),
                checks.counts_as_asked((e.task for e in episodes), dict.fromkeys(TASKS, count)),
            )
            work.draft.write_episodes(episodes, purpose=purpose, world="tabletop", policy="", world_model="")
            work.metrics["successes"] = sum(bool(e.success) for e in episodes)
            work.show("one episode of every task", episodes[::count])
    return stage.result(work)
