"""The one rollout loop: real rollouts, imagination and evaluation all run it, on whatever world they are given.

Observe, predict a chunk, execute its first steps, repeat; the result as episodes. Trajectories that have ended leave
the batch: the others go on without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vlaw_models.episodes import REWARDS, STEPS_SAVED, Episode, Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.rollouts.ask import ChunkPolicy, ask
from vlaw_models.worlds import Transition, World


def rollout(
    policy: ChunkPolicy,
    world: World,
    starts: Sequence[Start],
    *,
    num_steps: int,
    seed: int,
    noise_scale: float = 1.0,
) -> list[Episode]:
    """Runs the policy for `num_steps` control steps from every start, as one batch.

    Returns one episode per start, in their order, with every frame; success and event as the world judges them (None
    and "" where it cannot). Where the world tells rewards they are in extra["rewards"]. One that ends early (the
    world's `done_above`) has its last frame where its reward says done, and extra["steps_saved"] says how many of
    `num_steps` were not executed. `seed` fixes the policy's noise; the world has its own. Raises VlawError for a policy
    whose chunk is shorter than what it executes, or whose actions are not finite.
    """
    if not starts:
        return []
    generator = torch.Generator().manual_seed(seed)
    observation = world.reset(starts)
    instructions = world.instructions()
    rows = np.arange(len(starts))  # those that go on
    tracks = [_Track(observation.images[row], observation.state[row]) for row in rows]
    done = 0
    while done < num_steps and len(rows):
        count = min(policy.execute_steps, num_steps - done)
        where = f"control step {done}"
        asked = [instructions[row] for row in rows]
        chunk = ask(policy, observation, asked, generator, noise_scale=noise_scale, steps=count, where=where)
        moved = world.step(chunk[:, :count])
        done += count
        over = np.zeros(len(rows), bool) if moved.ended is None else moved.ended
        if moved.reward is None and getattr(world, "done_above", None) is not None:
            raise VlawError(
                f"episodes are to end by a reward above {world.done_above}, and world {world.name!r} tells none",
                where=where,
                remedy="Leave out done_above, or use a world that tells rewards.",
            )
        outcomes = world.outcomes() if over.any() or done >= num_steps else None
        for i, row in enumerate(rows):
            tracks[row].add(moved, i, world.done_above if over[i] else None)
            if over[i]:
                tracks[row].saved = num_steps - done
            if outcomes is not None and (over[i] or done >= num_steps):
                tracks[row].outcome = outcomes[i]
        if over.any():
            world.keep(np.flatnonzero(~over))
        rows = rows[~over]
        observation = Observation(moved.images[~over, -1], moved.states[~over, -1])
    return [
        Episode(
            task=start.task,
            instruction=instructions[i],
            seed=start.seed,
            images=np.concatenate(track.images),
            states=np.concatenate(track.states).astype(np.float32),
            actions=np.concatenate(track.actions).astype(np.float32),
            success=None if track.outcome is None else bool(track.outcome.success),
            event="" if track.outcome is None else track.outcome.event,
            nearness=None if track.outcome is None else track.outcome.nearness,
            start_episode_id=start.episode_id,
            cameras=world.robot.camera_names,
            control_hz=world.robot.control_hz,
            extra=track.extra(),
        )
        for i, (start, track) in enumerate(zip(starts, tracks, strict=True))
    ]


class _Track:
    """What one trajectory has passed through so far."""

    def __init__(self, image: np.ndarray, state: np.ndarray):
        self.images, self.states = [image[None]], [state[None]]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] | None = None
        self.outcome: Outcome | None = None
        self.saved: int | None = None

    def add(self, moved: Transition, row: int, done_above: float | None) -> None:
        """The chunk of a row of the batch; only as far as the first reward above `done_above`, if it is given."""
        count = moved.actions.shape[1]
        if moved.reward is not None:
            reward = moved.reward[row]
            if done_above is not None:
                count = int(np.argmax(reward > done_above)) + 1
            self.rewards = [*(self.rewards or []), *(round(float(one), 4) for one in reward[:count])]
        self.images.append(moved.images[row, :count])
        self.states.append(moved.states[row, :count])
        self.actions.append(moved.actions[row, :count])

    def extra(self) -> dict[str, Any]:
        """Plain values that go with the episode."""
        given = {REWARDS: self.rewards, STEPS_SAVED: self.saved}
        return {name: value for name, value in given.items() if value is not None}
