"""The protocol shared by the simulated robot and the world model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vlaw_models.episodes import Observation, Outcome, Start

if TYPE_CHECKING:
    from vlaw_models.robots.spec import RobotSpec


@dataclass(frozen=True)
class Transition:
    """What happened while one action chunk was executed, for a batch."""

    images: np.ndarray
    """(B, H, V, height, width, 3) uint8: the frame after each action."""
    states: np.ndarray
    """(B, H, D) float32: the pose commanded at each step, or what a world model's state head predicts of it; where the
    state is no pose, what follows from the commands."""
    actions: np.ndarray
    """(B, H, A) float32: the actions as executed, after the controller's clipping."""
    reward: np.ndarray | None = None
    """(B, H) float32 from 0 to 1: whether the task stands accomplished after each action, or how probably; None where
    the world cannot tell."""
    ended: np.ndarray | None = None
    """(B,) bool: which trajectories have ended, by a reward above the world's `done_above`; None where it cannot
    tell."""


def ended(reward: np.ndarray | None, done_above: float | None) -> np.ndarray | None:
    """`Transition.ended` of rewards (B, H); without a threshold nothing ends."""
    if reward is None:
        return None
    return np.zeros(len(reward), bool) if done_above is None else reward.max(axis=1) > done_above


def advance(
    chunk: np.ndarray,
    act: Callable[[np.ndarray], np.ndarray],
    accomplished: Callable[[], bool],
    draw: Callable[[], np.ndarray],
    *,
    inner_frames: bool,
    done_above: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One simulated robot executes a chunk (H, A): images (H, V, height, width, 3), states (H, D) and rewards (H,), 1
    where the task stands accomplished.

    Args:
        act: executes one action; returns the state.
        inner_frames: False: the only picture is that of the last step, repeated.
        done_above: once the reward is above it the robot stays as it is.
    """
    images, states, rewards, over = [], [], [], False
    for index, action in enumerate(chunk):
        if not over:
            states.append(act(action).copy())
            rewards.append(float(accomplished()))
            over = done_above is not None and rewards[-1] > done_above
            if inner_frames or over or index == len(chunk) - 1:
                images.append(draw())
    # One that has ended stays as it is; frames that nobody asked for are the one that was drawn.
    before, after = len(states) - len(images), len(chunk) - len(states)
    images = [images[-1]] * before + images + [images[-1]] * after
    states, rewards = states + [states[-1]] * after, rewards + [rewards[-1]] * after
    return np.stack(images), np.stack(states), np.array(rewards, np.float32)


class World(Protocol):
    """A batch of trajectories that advance together, one action chunk at a time."""

    name: str
    robot: RobotSpec
    image_size: int
    done_above: float | None
    """A trajectory has ended once its reward is above this; None: none ends early."""

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Begins one trajectory per start and returns the first observations."""

    def instructions(self) -> list[str]:
        """The language instruction of each trajectory of the batch."""

    def step(self, actions: np.ndarray) -> Transition:
        """Executes a chunk of actions (B, H, A): absolute pose targets, or what the robot's spec says."""

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these trajectories alone (numbers in the present batch, ascending): the others have ended."""

    def outcomes(self) -> list[Outcome] | None:
        """How each trajectory stands now, or None where the world cannot tell (a world model)."""
