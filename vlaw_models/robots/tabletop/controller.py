"""The Cartesian controller's limits: what a commanded pose may be and how fast it may change.

The robot and the world model clip with the same function, so an imagined state is what the robot would have had.
Action and state: x, y, z (metres), pitch of the hand (radians), gripper (0 open .. 1 closed); all commanded poses.
"""

from __future__ import annotations

import numpy as np

ACTION_DIM = 5
LOW = np.array([-0.20, -0.20, 0.0, -1.8, 0.0], dtype=np.float32)
HIGH = np.array([0.20, 0.20, 0.26, 1.8, 1.0], dtype=np.float32)
MAX_DELTA = np.array([0.05, 0.05, 0.05, 0.5, 1.0], dtype=np.float32)
"""Largest change in one control step of 0.2 s."""
HOME = np.array([0.0, 0.0, 0.20, 0.0, 0.0], dtype=np.float32)


def clip_action(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The target that the controller accepts from `state`; both (..., A), returns (..., A) float32."""
    reachable = np.clip(action, state - MAX_DELTA, state + MAX_DELTA)
    return np.clip(reachable, LOW, HIGH).astype(np.float32)
