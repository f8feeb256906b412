"""What a task of the embedded robot is, and how its scripted expert moves.

A task owns its objects (MJCF), its seeded reset, its success criterion (paper, Appendix B) and its expert. An expert is
a list of waypoints computed from the simulator's true state; `Quality` bends it into the failures real demonstrators
and half-trained policies produce.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vlaw_models.episodes import Outcome
from vlaw_models.robots.tabletop.controller import HOME, MAX_DELTA

if TYPE_CHECKING:
    import mujoco

    from vlaw_models.robots.tabletop.scene import Sim


NEAREST_FAILURE = 0.99
"""Nearness of a failure at most, e.g. of a block that is in its place and still held."""


@dataclass(frozen=True)
class Quality:
    """How well a scripted demonstration is carried out. All zero: the noise-free expert."""

    jitter: float = 0.0
    """Standard deviation of the error of each commanded position, metres."""
    aim: float = 0.0
    """Standard deviation of one constant horizontal aiming error per waypoint group, metres."""
    mistake: str = ""
    """'' | 'first' (the first interaction, e.g. the grasp, is missed) | 'last' (the last one is) | 'stop' (gives
    up)."""


Target = Callable[["Sim"], "np.ndarray"]
"""Where the hand should be: (x, y, z, pitch), metres and radians."""


@dataclass
class Waypoint:
    """Go to `pose(sim)` (x, y, z, pitch), gripper at `gripper`, then stay `hold` steps.

    `group` 'first' or 'last' marks waypoints that belong to the first or last interaction: mistakes shift those.
    """

    pose: Target
    gripper: float
    hold: int = 0
    group: str = ""
    speed: float = 1.0
    """Share of the controller's top speed."""


class Task(ABC):
    """One task category. Subclasses are stateless: everything an episode remembers lives in the `Sim`."""

    name: ClassVar[str]
    stream: ClassVar[int]
    """Number of this task's random stream."""
    home: ClassVar[np.ndarray] = HOME
    """Pose (5,) in which an episode begins."""
    mistake_offset: ClassVar[tuple[float, float]] = (0.05, 0.075)
    """Size of a deliberate aiming mistake, metres: large enough to be seen in the pictures."""

    @abstractmethod
    def compile(self) -> mujoco.MjModel:
        """The scene with this task's objects."""

    @abstractmethod
    def reset(self, sim: Sim, rng: np.random.Generator) -> str:
        """Places the objects; returns the instruction."""

    def update(self, sim: Sim) -> None:  # noqa: B027 - most tasks have nothing to remember
        """Called several times per control step: traces, erased marks, highest lift."""

    @abstractmethod
    def outcome(self, sim: Sim) -> Outcome:
        """Success by the paper's criterion, judged on the present state; otherwise how it failed."""

    @abstractmethod
    def distance(self, sim: Sim) -> float:
        """How far the present state is from success, by what `outcome` judges; 0 where nothing is missing. Each task
        has a unit of its own."""

    def judged(self, sim: Sim) -> Outcome:
        """The outcome with its nearness."""
        found = self.outcome(sim)
        far = max(sim.far, 1e-9)
        near = 1.0 if found.success else min(max(1.0 - self.distance(sim) / far, 0.0), NEAREST_FAILURE)
        return replace(found, nearness=round(near, 4))

    @abstractmethod
    def points(self, sim: Sim) -> np.ndarray:
        """World positions (2, 3) of what the instruction is about at present: what is acted on first, and last.

        NaN where there is none. Known in simulation only: pretraining teaches the policy's attention with them.
        """

    def mistake_shift(self, mistake: str, rng: np.random.Generator) -> np.ndarray:
        """Horizontal error (2,) of a deliberate mistake of kind 'first' or 'last', metres; here in any direction."""
        low, high = self.mistake_offset
        angle = rng.uniform(0, 2 * np.pi)
        return rng.uniform(low, high) * np.array([np.cos(angle), np.sin(angle)])

    def spoil(self, plan: list[Waypoint], mistake: str, rng: np.random.Generator) -> list[Waypoint]:
        """The plan bent into a mistake that is not an aiming error (pressing too little, stopping short); here none."""
        return plan

    @abstractmethod
    def waypoints(self, sim: Sim) -> list[Waypoint]:
        """The expert's plan."""


class Expert:
    """Follows a task's waypoints with a given quality. One action per control step."""

    def __init__(
        self, sim: Sim, rng: np.random.Generator, quality: Quality, shift: tuple[str, np.ndarray] | None = None
    ):
        """`shift`: a group of waypoints, 'first' or 'last', and how far they are moved, (3,) metres."""
        self._shift = shift or ("none", np.zeros(3))
        self.plan = sim.task.waypoints(sim)
        self.rng, self.quality = rng, quality
        self.index = self.held = 0
        self._aim = {g: rng.normal(0.0, quality.aim, 2) if quality.aim else np.zeros(2) for g in ("", "first", "last")}
        if quality.mistake in ("first", "last"):
            self._aim[quality.mistake] = sim.task.mistake_shift(quality.mistake, rng)
            self.plan = sim.task.spoil(self.plan, quality.mistake, rng)
        self._stop = len(self.plan)
        if quality.mistake == "stop":
            self._stop = int(rng.integers(1, max(2, len(self.plan) - 1)))

    def act(self, sim: Sim) -> np.ndarray:
        """The next absolute pose target (5,) float32."""
        if self.index >= self._stop:
            return sim.state.copy()
        waypoint = self.plan[self.index]
        goal = np.array([*waypoint.pose(sim), waypoint.gripper], dtype=np.float32)
        goal[:2] += self._aim[waypoint.group]
        if waypoint.group == self._shift[0]:
            goal[:3] += self._shift[1]
        delta = goal - sim.state
        # Straight lines: the slowest axis sets the pace. The gripper does not count; it moves at its own speed.
        ratio = np.max(np.abs(delta[:4]) / (MAX_DELTA[:4] * waypoint.speed))
        action = sim.state + delta / max(1.0, ratio)
        action[4] = goal[4]
        if self.quality.jitter:
            action[:3] += self.rng.normal(0.0, self.quality.jitter, 3)
        if ratio <= 1.0:
            self.held += 1
            if self.held > waypoint.hold:
                self.index, self.held = self.index + 1, 0
        return action.astype(np.float32)
