"""The one rollout loop: real rollouts, imagination and evaluation all run it, on whatever world they are given.

Observe, predict a chunk, execute its first steps, repeat; the result as episodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlaw_models.episodes import Episode, Observation, Start
from vlaw_models.rollouts.ask import ChunkPolicy, ask
from vlaw_models.worlds import World


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
    and "" where it cannot). `seed` fixes the policy's noise; the world has its own. Raises VlawError for a policy whose
    chunk is shorter than what it executes, or whose actions are not finite.
    """
    if not starts:
        return []
    generator = torch.Generator().manual_seed(seed)
    observation = world.reset(starts)
    instructions = world.instructions()
    images, states, actions = [observation.images[:, None]], [observation.state[:, None]], []
    done = 0
    while done < num_steps:
        count = min(policy.execute_steps, num_steps - done)
        where = f"control step {done}"
        chunk = ask(policy, observation, instructions, generator, noise_scale=noise_scale, steps=count, where=where)
        moved = world.step(chunk[:, :count])
        images.append(moved.images)
        states.append(moved.states)
        actions.append(moved.actions)
        observation = Observation(moved.images[:, -1], moved.states[:, -1])
        done += count
    outcomes = world.outcomes()
    frames, poses, executed = (np.concatenate(parts, axis=1) for parts in (images, states, actions))
    return [
        Episode(
            task=start.task,
            instruction=instructions[i],
            seed=start.seed,
            images=frames[i],
            states=poses[i].astype(np.float32),
            actions=executed[i].astype(np.float32),
            success=None if outcomes is None else bool(outcomes[i].success),
            event="" if outcomes is None else outcomes[i].event,
            start_episode_id=start.episode_id,
            cameras=world.robot.camera_names,
            control_hz=world.robot.control_hz,
        )
        for i, start in enumerate(starts)
    ]
