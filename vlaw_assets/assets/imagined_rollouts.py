"""Imagined rollouts: the policy inside the world model, from the first frames of this iteration's real rollouts.

Here: choosing the starts and keeping what was imagined. Not here: the closed loop of policy and world model
(vlaw_models/imagine). Every imagined episode has exactly one real parent, and begins with its very pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.foundation import EPISODE_CHECKS
from vlaw_assets.assets.loop_state import read_state
from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Episode, Start


@stage_asset(group="iteration", deps=("loop_state", "real_rollouts", "world_model", "autoencoder"), modules=code.IMAGINE,
             pool=POOL, kinds=("deltalake", "lance"), checks=(*EPISODE_CHECKS, checks.STARTS))
def imagined_rollouts(stage: Stage) -> dg.MaterializeResult:
    """N imagined episodes per task of the policy that made the real rollouts; nobody has judged them yet."""
    recipe, state = stage.recipe, read_state(stage)
    per_task = recipe.imagine.episodes_per_task
    parents = {"policy": state.policy, "world_model": stage.require("world_model"),
               "autoencoder": stage.require_foundation("autoencoder"), "starts": stage.require("real_rollouts")}
    tables = {**recipe.tables("imagine"), "tasks": list(recipe.tasks), "seed": stage.seed}
    with stage.commit("imagined_rollouts", recipe=tables, parents=parents) as work:
        if work.wanted and per_task:
            from vlaw_models.imagine import imagine

            starts = starts_from(work.read("starts").episodes(frames=True, steps=[0]), recipe.tasks, per_task)
            first = {start.episode_id: start.images for start in starts}
            digests = {role: ref.content_digest for role, ref in parents.items()}
            tasks: list[str] = []
            for batch in imagine(work.read("policy").checkpoint(), work.read("world_model").checkpoint(),
                                 work.read("autoencoder").checkpoint(), starts, recipe.imagine,
                                 seed=stage.seed, progress=stage.progress):
                work.check(checks.episodes_fit_schema(batch, tasks=recipe.tasks, judged=False), checks.all_finite(batch),
                           begin_with_real_frames(batch, first))
                work.draft.write_episodes(batch, purpose="imagined", world="world_model",
                                          policy=digests["policy"], world_model=digests["world_model"])
                if not tasks:
                    work.show("imagined episodes", batch[:len(recipe.tasks)])
                tasks += [episode.task for episode in batch]
            work.check(checks.counts_as_asked(tasks, dict.fromkeys(recipe.tasks, per_task)))
    return stage.result(work)


def starts_from(real: Sequence[Episode], tasks: Sequence[str], per_task: int) -> list[Start]:
    """`per_task` starts for every task, taken in turn from the task's real episodes; tasks interleaved."""
    from vlaw_models.episodes import Start

    pools = {task: [episode for episode in real if episode.task == task] for task in tasks}
    empty = [task for task, pool in pools.items() if not pool]
    if empty:
        raise VlawError(f"there is no real rollout of {', '.join(empty)} to imagine from", where="imagined_rollouts",
                        remedy="Set [rollouts] episodes_per_task to 1 or more.")
    return [
        Start(task=task, seed=index, instruction=episode.instruction, images=episode.images[0], state=episode.states[0],
              episode_id=episode.episode_id)
        for index in range(per_task) for task, pool in pools.items() for episode in [pool[index % len(pool)]]
    ]


def begin_with_real_frames(episodes: Sequence[Episode], first: dict[str | None, np.ndarray | None]) -> checks.Finding:
    """Each imagined episode names a real one and begins with its first frame, pixel by pixel."""
    import numpy as np

    bad = [f"episode {index} ({episode.task}) from {episode.start_episode_id}" for index, episode in enumerate(episodes)
           if episode.start_episode_id not in first or not np.array_equal(episode.images[0], first[episode.start_episode_id])]
    return checks.Finding(checks.STARTS, passed=not bad, text="; ".join(bad[:checks.SHOWN]) or
                          f"{len(episodes)} imagined episodes begin with the frames of their real start")
