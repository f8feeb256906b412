"""Privileged information: what only the robot's own simulator knows about imagined episodes.

A policy rolled out on the true physics from recorded starts (the oracle), and the true outcome of actions that were
imagined. Both are for ceilings and for measuring; no honest arm trains on either. Only pretraining does, whose episodes
are all simulated: its judge learns from imagined actions that the robot then tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.spread import Batches, Spread, here

Origins = Mapping[str, Start]
"""Id of a real episode -> the (task, seed) it was reset by; only of episodes of the robot's own simulator."""
_TRUE_OUTCOMES = "true outcomes of imagined episodes"
_PLAYED = 50
"""Episodes played in one part."""
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
    spread: Spread = here,
) -> np.ndarray:
    """Success (N,) bool of the recorded actions of `episodes`, executed on the simulator from each one's real start.

    Physics only: nothing is rendered and no frame is needed. Episodes name their start by `start_episode_id`. The
    result does not depend on `threads`, nor on where `spread` has it made. VlawError for a start that the simulator
    cannot reset to.
    """
    simulator_of(robot, needed_by=_TRUE_OUTCOMES, remedy=NOT_PRIVILEGED)
    starts = [_origin(episode.start_episode_id, episode.task, origins) for episode in episodes]
    plays = [{"start": start, "actions": e.actions} for start, e in zip(starts, episodes, strict=True)]
    settings = {"robot": robot, "threads": threads if spread is here else 1}
    verdicts: list[bool] = []
    for part in spread(playing, {}, settings, Batches(plays, _PLAYED)):
        verdicts += part
        if progress is not None:
            progress(len(verdicts), len(episodes), "true outcomes (privileged)")
    return np.array(verdicts, dtype=bool)


def playing(_inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], list[bool]]:
    """The heavy part of `true_outcomes`: a batch of starts with the actions to play -> success of each."""
    simulator = simulator_of(settings["robot"], needed_by=_TRUE_OUTCOMES, remedy=NOT_PRIVILEGED)
    local = threading.local()

    def outcome(play: Mapping[str, Any]) -> bool:
        if not hasattr(local, "player"):
            local.player = simulator.player()
        return bool(local.player(play["start"], play["actions"]).success)

    def batch(part: Mapping[str, Any]) -> list[bool]:
        with ThreadPoolExecutor(settings["threads"]) as pool:
            return list(pool.map(outcome, part["items"]))

    return batch


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
