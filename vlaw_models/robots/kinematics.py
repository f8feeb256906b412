"""Forward kinematics of a serial arm: joint angles to the pose of its flange. numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Row = tuple[float, float, float]
"""(a, d, alpha) of one link in Craig's modified Denavit-Hartenberg notation: metres, metres, radians. Its fourth
number is the joint's angle."""


def flange(joints: np.ndarray, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Position (..., 3) in metres and rotation (..., 3, 3) of an arm's flange in the frame of its base, float64.

    Args:
        joints: (..., J) radians.
        rows: of each joint, and then of what is fixed to the last one.
    """
    import numpy as np

    angles = np.asarray(joints, np.float64)
    fixed = np.zeros((*angles.shape[:-1], len(rows) - angles.shape[-1]))
    angles = np.concatenate([angles, fixed], axis=-1)
    position = np.zeros((*angles.shape[:-1], 3))
    rotation = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for (a, d, alpha), angle in zip(rows, np.moveaxis(angles, -1, 0), strict=True):
        turn, lean = np.zeros((*angle.shape, 3, 3)), np.eye(3)
        turn[..., 0, 0] = turn[..., 1, 1] = np.cos(angle)
        turn[..., 1, 0] = np.sin(angle)
        turn[..., 0, 1] = -turn[..., 1, 0]
        turn[..., 2, 2] = 1
        lean[1:, 1:] = [[np.cos(alpha), -np.sin(alpha)], [np.sin(alpha), np.cos(alpha)]]
        position = position + rotation @ np.array([a, -np.sin(alpha) * d, np.cos(alpha) * d])
        rotation = rotation @ (lean @ turn)
    return position, rotation


def roll_pitch_yaw(rotation: np.ndarray) -> np.ndarray:
    """(..., 3) angles about the fixed axes x, y, z, in [-pi, pi], of rotations (..., 3, 3)."""
    import numpy as np

    roll = np.arctan2(rotation[..., 2, 1], rotation[..., 2, 2])
    pitch = np.arctan2(-rotation[..., 2, 0], np.hypot(rotation[..., 0, 0], rotation[..., 1, 0]))
    yaw = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])
    return np.stack([roll, pitch, yaw], axis=-1)
