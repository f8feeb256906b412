"""What a robot, a world model and a learner exchange: starts, observations, episodes (numpy only).

Dimensions: B batch, T control steps, H steps of one action chunk, V cameras, A action, D state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vlaw_models.sources import Frames


@dataclass(frozen=True)
class Observation:
    """What a policy sees, for a batch."""

    images: np.ndarray
    """(B, V, height, width, 3) uint8, cameras in the order of the robot's spec."""
    state: np.ndarray
    """(B, D) float32: the pose commanded last (so that it exists in imagination too), or what the state head of a world
    model predicts of it."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Start:
    """Where one rollout begins: a seeded reset of a simulated robot, or a recorded first frame to imagine from."""

    task: str
    seed: int
    instruction: str = ""
    """Empty for a simulated reset: the seed chooses the instruction too."""
    images: np.ndarray | None = None
    """(V, height, width, 3) uint8, first frame of a real episode; None for a simulated reset."""
    state: np.ndarray | None = None
    """(D,) float32, state at that frame."""
    episode_id: str | None = None
    """The real episode that this start was taken from."""
    latents: np.ndarray | None = None
    """(C, V*h, w), the first frame as an autoencoder encodes it; None where that is not known yet."""


@dataclass(frozen=True)
class Outcome:
    """How an episode ended, as the world itself judges it."""

    success: bool
    event: str
    """'success' or the way it failed, e.g. 'missed_grasp', 'toppled', 'half_open', 'mark_left', 'spilled',
    'open_curve'."""
    nearness: float | None = None
    """How near to success it ended: 1 success, 0 as far from it as at the start; None where the world does not
    measure that."""


REWARDS = "rewards"
"""Of an episode's `extra`: a number from 0 to 1 for each step, whether the task stands accomplished after it, or how
probably."""

STEPS_SAVED = "steps_saved"
"""Of the `extra` of an episode that ended early: control steps that were not executed, or frames not imagined."""


@dataclass
class Episode:
    """One trajectory, real or imagined."""

    task: str
    instruction: str
    seed: int
    images: np.ndarray | Frames
    """(T+1, V, height, width, 3) uint8: the frame before each action, and the last one."""
    states: np.ndarray
    """(T+1, D) float32."""
    actions: np.ndarray
    """(T, A) float32: absolute pose targets as executed (after clipping), or what the robot's spec says."""
    success: bool | None = None
    """None while nobody has judged it (imagined episodes)."""
    event: str = ""
    nearness: float | None = None
    """As `Outcome.nearness`."""
    start_episode_id: str | None = None
    """For an imagined episode: the real episode whose first frame it starts from."""
    episode_id: str = ""
    cameras: tuple[str, ...] = ()
    """Names of the V views, in their order; empty where nobody named them."""
    control_hz: float = 1.0
    """Control steps per second; 1 where nobody said, so that times are in steps."""
    extra: dict = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        return len(self.actions)
