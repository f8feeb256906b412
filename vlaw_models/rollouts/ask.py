"""Asking a policy for a chunk: the one way in which rollouts and the policy server do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.policies.base import Generators
    from vlaw_models.robots.spec import RobotSpec


class ChunkPolicy(Protocol):
    """What asking needs of a policy (see policies/base.py)."""

    execute_steps: int
    """Steps of each predicted chunk that are executed before the next prediction."""

    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        """(B, H, A) float32 actions."""


def ask(
    policy: ChunkPolicy,
    observation: Observation,
    instructions: Sequence[str],
    generator: Generators,
    *,
    noise_scale: float,
    steps: int,
    where: str,
) -> np.ndarray:
    """The chunk (B, H, A) that the policy answers with, before any clipping.

    `generator`: one CPU generator, or one for each of the batch. `steps`: how many of H will be executed. Raises
    VlawError for a chunk that is shorter, or not finite, naming `where`.
    """
    chunk = policy.sample(observation, instructions, generator, noise_scale)
    if chunk.shape[1] < steps or not np.isfinite(chunk).all():
        raise VlawError(
            f"the policy's chunk {chunk.shape} is shorter than {steps} steps or not finite",
            where=where,
            remedy="Train the policy again, or lower its execute_steps.",
        )
    return chunk


def accepted(robot: RobotSpec, state: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """The actions (B, H, A) that the robot's controller accepts of a chunk (B, H, A) when it begins at `state` (B, D):
    each step is clipped from the one before it, as worlds do."""
    taken = [state]
    for action in chunk.swapaxes(0, 1):
        taken.append(robot.clip(taken[-1], action))
    return np.stack(taken[1:], axis=1)
