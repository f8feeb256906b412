"""The protocol shared by the simulated robot and the world model."""

from __future__ import annotations

from collections.abc import Sequence
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
    """(B, H, D) float32: the pose commanded at each step."""
    actions: np.ndarray
    """(B, H, A) float32: the actions as executed, after the controller's clipping."""


class World(Protocol):
    """A batch of trajectories that advance together, one action chunk at a time."""

    name: str
    robot: RobotSpec
    image_size: int

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Begins one trajectory per start and returns the first observations."""

    def instructions(self) -> list[str]:
        """The language instruction of each trajectory of the batch."""

    def step(self, actions: np.ndarray) -> Transition:
        """Executes a chunk of absolute pose targets (B, H, A)."""

    def outcomes(self) -> list[Outcome] | None:
        """How each trajectory stands now, or None where the world cannot tell (a world model)."""
