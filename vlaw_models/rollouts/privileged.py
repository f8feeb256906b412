"""Privileged information: what only the robot's own simulator knows about imagined episodes.

A policy rolled out on the true physics from recorded starts (the oracle), and the true outcome of actions that were
imagined. Both are for ceilings and for measuring; no honest arm trains on either. Only pretraining does, whose episodes
are all simulated: its judge learns from imagined actions that the robot then tried.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec

Origins = Mapping[str, Start]
"""Id of a real episode -> the (task, seed) it was reset by; only of episodes of the robot's own simulator."""
NOT_PRIVILEGED = "Set imagine.world = 'world_model' and score.labels = 'judge', which need no simulator."


def rollouts_from_starts(
    policy_dir: Path,
    starts: Sequence[Start],
    origins: Origins,
    cfg: ImagineConfig,
    *,
    robot: RobotSpec,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[list[Episode]]:
    """As `imagine`, on the true simulator instead of a world model: batches in the order of `starts`, rendered.

    Episodes have success None (`true_outcomes` tells it), `start_episode_id` set, and the start's own `seed`, the
    number of the try. The policy's noise differs from try to try. VlawError for a start that the simulator cannot reset
    to.
    """
    from vlaw_models.policies.base import load_policy
    from vlaw_models.rollouts.rollout import rollout

    simulator = simulator_of(robot, needed_by="imagine.world = 'simulator'", remedy=NOT_PRIVILEGED)
    resets = [replace(_origin(start.episode_id, start.task, origins), episode_id=start.episode_id) for start in starts]
    policy = load_policy(Path(policy_dir))
    world = simulator.world(getattr(policy, "image_size", None))
    world.done_above = cfg.done_above

    def batches() -> Iterator[list[Episode]]:
        for begin in range(0, len(starts), cfg.batch_size):
            part = slice(begin, begin + cfg.batch_size)
            noise = int(np.random.SeedSequence([seed, begin]).generate_state(1)[0])
            done = rollout(
                policy, world, resets[part], num_steps=cfg.num_steps, seed=noise, noise_scale=cfg.noise_scale
            )
            yield [
                replace(episode, seed=start.seed, success=None, event="", nearness=None)
                for episode, start in zip(done, starts[part], strict=True)
            ]
            if progress is not None:
                progress(
                    min(begin + cfg.batch_size, len(starts)), len(starts), "rollouts on the simulator (privileged)"
                )

    return batches()


def true_outcomes(
    episodes: Sequence[Episode],
    origins: Origins,
    *,
    robot: RobotSpec,
    threads: int = 2,
    progress: Progress | None = None,
) -> np.ndarray:
    """Success (N,) bool of the recorded actions of `episodes`, executed on the simulator from each one's real start.

    Physics only: nothing is rendered and no frame is needed. Episodes name their start by `start_episode_id`. The
    result does not depend on `threads`. VlawError for a start that the simulator cannot reset to.
    """
    simulator = simulator_of(robot, needed_by="true outcomes of imagined episodes", remedy=NOT_PRIVILEGED)
    starts = [_origin(episode.start_episode_id, episode.task, origins) for episode in episodes]
    local = threading.local()

    def outcome(episode: Episode, start: Start) -> bool:
        if not hasattr(local, "player"):
            local.player = simulator.player()
        return bool(local.player(start, episode.actions).success)

    verdicts = np.zeros(len(episodes), dtype=bool)
    with ThreadPoolExecutor(threads) as pool:
        for index, success in enumerate(pool.map(outcome, episodes, starts)):
            verdicts[index] = success
            if progress is not None and (index + 1) % 100 == 0:
                progress(index + 1, len(episodes), "true outcomes (privileged)")
    return verdicts


def _origin(episode_id: str | None, task: str, origins: Origins) -> Start:
    start = origins.get(episode_id or "")
    if start is None or start.task != task:
        raise VlawError(
            f"the simulator cannot be reset to the start {episode_id!r} of task {task!r}: no episode that it recorded "
            "is known there",
            where="privileged information of the simulator",
            remedy=f"Use starts that were recorded on the simulated robot. {NOT_PRIVILEGED}",
        )
    return start
