"""In what a robot is commanded, and how its commands move it: action spaces, and the motion of one robot.

A policy acts in its own space (joint velocities at 15 Hz), a world model is conditioned in its own (poses at 5 Hz), and
the robot says how one becomes the other. A *control step* is one frame of the cameras and of a world model; a robot may
be commanded several times in it. The action of a control step then is its commands one after the other: 3 commands of 8
numbers are 24 numbers, and 5 control steps of them a chunk of 15 x 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.robots.spec import RobotSpec

JOINT_VELOCITY, JOINT_POSITION, POSE = "joint velocity", "joint position", "pose"
KINDS = (JOINT_VELOCITY, JOINT_POSITION, POSE)
SAME_RATE = 1e-6
"""Hertz by which equal rates may differ."""


@dataclass(frozen=True)
class ActionSpace:
    """What is commanded, and how often."""

    kind: str
    """One of `KINDS`; the gripper's target is a position in each of them."""
    hz: float
    """Commands per second."""
    names: tuple[str, ...]
    """Of the numbers of one command."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.hz > 0 or not self.names:
            raise VlawError(
                f"kind {self.kind!r}, {self.hz} Hz, {len(self.names)} numbers",
                where="action space",
                remedy=f"Use a kind of {', '.join(KINDS)}, a rate above 0, and name the numbers of a command.",
            )

    def __str__(self) -> str:
        return f"{self.kind} ({len(self.names)} numbers) at {self.hz:g} Hz"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "hz": self.hz, "names": list(self.names)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ActionSpace:
        return cls(stored["kind"], float(stored["hz"]), tuple(stored["names"]))

    def per_step(self, control_hz: float, *, where: str) -> int:
        """Commands in a control step. Raises VlawError where that is no whole number."""
        count = round(self.hz / control_hz)
        if count < 1 or abs(count * control_hz - self.hz) > SAME_RATE:
            raise VlawError(
                f"commands at {self.hz:g} Hz do not fill control steps at {control_hz:g} Hz: "
                f"{self.hz / control_hz:.3g} of them are no whole number",
                where=where,
                remedy="Give a rate of commands that is a multiple of the cameras' rate.",
            )
        return count


class Motion(Protocol):
    """How a robot whose state is not the pose that a world model is told moves. No state of its own: what an arm
    remembers of its way is an array, one row per arm."""

    def poses(self, states: np.ndarray) -> np.ndarray:
        """(..., D) states to (..., P) poses, float32."""

    def begin(self, states: np.ndarray) -> np.ndarray:
        """(B, M): what arms remember that are at rest in these states (B, D)."""

    def follow(self, memory: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(memory, states (B, H, D) float32) after H control steps with these actions (B, H, A)."""

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, as plain values."""


def check_acts(space: ActionSpace | None, robot: RobotSpec, *, where: str) -> None:
    """Raises VlawError where a policy acts in another space than the robot is commanded in. `space` None: the policy
    does not say, which does for a robot that is commanded in targets of its state."""
    if space == robot.commands:
        return
    own = robot.commands or f"absolute targets of its state at {robot.control_hz:g} Hz"
    raise VlawError(
        f"the policy {f'acts in {space}' if space else 'does not say in what it acts'}, robot {robot.name!r} is "
        f"commanded in {own}",
        where=where,
        remedy="Name the robot that is commanded as the policy acts (`robot` of recipe and foundation), or use a "
        "policy that was trained for this one.",
    )


def check_conditioned(space: ActionSpace | None, robot: RobotSpec, *, where: str) -> None:
    """Raises VlawError where a world model is conditioned in other poses, or at another rate, than the robot gives.
    `space` None: the model does not say."""
    given = robot.conditioning
    if space is not None and given is not None and space != given:
        raise VlawError(
            f"the world model is conditioned in {space}, robot {robot.name!r} gives {given}",
            where=where,
            remedy="Use a world model that was trained for this robot.",
        )
