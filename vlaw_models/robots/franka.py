"""The Franka arm of DROID: which pose its joints are, and where commands lead it.

DROID's controller adds a commanded joint velocity, times .2, to the joints that it has just measured, and pulls the arm
there with an impedance until the next command, 1/15 s later; a commanded joint position it pulls to as it is. How the
arm answers was learned from recordings:

- velocities by the adapter that Ctrl-World publishes, a network from joints and the 15 commands to come, to where the
  arm is after each of them. It sees no past; what the arm was doing before is added to it, linearly.
- positions by a lag with three constants, the same for all joints (`LAG`).

Errors at the flange are in docs/architecture.md. numpy alone, imported when it is needed: recipes read specs.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.robots.kinematics import flange, roll_pitch_yaw
from vlaw_models.robots.spaces import JOINT_VELOCITY

if TYPE_CHECKING:
    import numpy as np

JOINTS = 7
PANDA = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
    (0.0, 0.107, 0.0),
)
"""Links of the arm (kinematics.py): seven joints and the flange."""
JOINT_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
"""Radians, of the data sheet."""
ADAPTER = Path(__file__).parents[1] / "weights" / "franka_adapter" / "model.safetensors"
AHEAD = 15
"""Commands that the adapter looks at."""
BEHIND = 3
"""Commands, and changes of the joints, before them that it looks at."""
LAG = (0.6602, 0.2205, -0.1811)
"""Of positions: d' = a d + b (target - q) + c (target before - q), where d is the change in the time of a command."""


@dataclass(frozen=True)
class FrankaMotion:
    """`Motion` of the arm; a state is seven joints and the gripper, 0 open to 1 closed.

    An arm's memory: its joints, `BEHIND` changes of them and `BEHIND` commands, the oldest first, and its gripper.
    """

    kind: str
    """In what it is commanded."""
    per_step: int
    """Commands in a control step."""
    gripper_step: float
    """By how much the gripper closes or opens in the time of a command, at most."""

    def identity(self) -> dict[str, Any]:
        learned = {"adapter": _digest()} if self.kind == JOINT_VELOCITY else {"lag": list(LAG)}
        return {"arm": "franka", "kind": self.kind, "gripper_step": self.gripper_step, **learned}

    def poses(self, states: np.ndarray) -> np.ndarray:
        """(..., 8) to (..., 7): position in metres, roll, pitch and yaw in radians, gripper."""
        import numpy as np

        position, rotation = flange(states[..., :JOINTS], PANDA)
        found = [position, roll_pitch_yaw(rotation), states[..., JOINTS:]]
        return np.concatenate(found, axis=-1).astype(np.float32)

    def begin(self, states: np.ndarray) -> np.ndarray:
        import numpy as np

        joints, gripper = np.asarray(states, np.float64)[:, :JOINTS], states[:, JOINTS:]
        still = np.zeros((len(states), BEHIND * JOINTS))
        # Where the arm was told to be: it stands there.
        told = still if self.kind == JOINT_VELOCITY else np.tile(joints, BEHIND)
        return np.concatenate([joints, still, told, gripper], axis=1)

    def follow(self, memory: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import numpy as np

        batch, steps, _ = actions.shape
        commands = np.asarray(actions, np.float64).reshape(batch, steps * self.per_step, JOINTS + 1)
        joints, rest, gripper = memory[:, :JOINTS], memory[:, JOINTS:-1], memory[:, -1]
        changes, told = (part.reshape(batch, BEHIND, JOINTS) for part in np.split(rest, 2, axis=1))
        states = []
        for begin in range(0, commands.shape[1], AHEAD):
            own = commands[:, begin : begin + AHEAD, :JOINTS]
            after = self._reached(joints, changes, told, own)
            moved = np.diff(after, axis=1, prepend=joints[:, None])
            changes = np.concatenate([changes, moved], axis=1)[:, -BEHIND:]
            told = np.concatenate([told, own], axis=1)[:, -BEHIND:]
            joints = after[:, -1]
            states.append(after)
        grips = []
        for target in commands[..., JOINTS].T:
            gripper = gripper + np.clip(target - gripper, -self.gripper_step, self.gripper_step)
            grips.append(gripper)
        found = np.concatenate([np.concatenate(states, axis=1), np.stack(grips, axis=1)[..., None]], axis=-1)
        kept = [joints, changes.reshape(batch, -1), told.reshape(batch, -1), gripper[:, None]]
        return np.concatenate(kept, axis=1), found[:, self.per_step - 1 :: self.per_step].astype(np.float32)

    def _reached(self, joints: np.ndarray, changes: np.ndarray, told: np.ndarray, own: np.ndarray) -> np.ndarray:
        """(B, n, 7) joints after each of n commands `own` (B, n, 7), within the arm's limits."""
        import numpy as np

        found = (by_velocity if self.kind == JOINT_VELOCITY else by_position)(joints, changes, told, own)
        return np.clip(found, JOINT_LOW, JOINT_HIGH)


def by_velocity(joints: np.ndarray, changes: np.ndarray, told: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """(B, n, 7) joints after each of at most AHEAD velocities (B, n, 7), as shares of the largest.

    Args:
        joints: (B, 7) radians.
        changes: (B, BEHIND, 7) of the joints before, the oldest first.
        told: (B, BEHIND, 7) velocities before.
    """
    import numpy as np

    count = velocities.shape[1]
    # Of what comes later nothing is known but that it goes on.
    ahead = np.concatenate([velocities, np.repeat(velocities[:, -1:], AHEAD - count, axis=1)], axis=1)
    net = _Adapter.shipped()
    return joints[:, None] + (net.changes(joints, ahead) + net.history(changes, told, ahead))[:, :count]


def by_position(joints: np.ndarray, changes: np.ndarray, told: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same of positions that are commanded (B, n, 7), radians; `told`: those before."""
    import numpy as np

    change, before, found = changes[:, -1], told[:, -1], []
    for target in targets.swapaxes(0, 1):
        change = LAG[0] * change + LAG[1] * (target - joints) + LAG[2] * (before - joints)
        joints, before = joints + change, target
        found.append(joints)
    return np.stack(found, axis=1)


@dataclass(frozen=True)
class _Adapter:
    """Ctrl-World's network with what it is scaled by, and the linear part of the past."""

    tensors: dict[str, np.ndarray]

    @staticmethod
    @cache
    def shipped() -> _Adapter:
        import numpy as np
        from safetensors.numpy import load_file

        return _Adapter({name: value.astype(np.float64) for name, value in load_file(ADAPTER).items()})

    @cached_property
    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(self.tensors[f"net.{layer}.weight"].T, self.tensors[f"net.{layer}.bias"]) for layer in (0, 2, 4)]

    def changes(self, joints: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """(B, AHEAD, 7) radians from `joints` (B, 7) on, of velocities (B, AHEAD, 7)."""
        import numpy as np

        low, high = self.tensors["velocity_low"], self.tensors["velocity_high"]
        x = np.concatenate([joints, (2 * (velocities - low) / (high - low) - 1).reshape(len(joints), -1)], axis=1)
        for number, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if number < len(self.layers) - 1:
                x = x / (1 + np.exp(-x))
        low, high = self.tensors["change_low"], self.tensors["change_high"]
        return (x.reshape(len(joints), AHEAD, JOINTS) + 1) / 2 * (high - low) + low

    def history(self, changes: np.ndarray, told: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """(B, AHEAD, 7): what the past says beside that, each joint on its own."""
        import numpy as np

        seen = np.concatenate([changes[:, ::-1], told[:, ::-1], velocities[:, :BEHIND]], axis=1)
        return np.einsum("bfj,jfs->bsj", seen, self.tensors["history"])


@cache
def _digest() -> str:
    return hashlib.sha256(ADAPTER.read_bytes()).hexdigest()
