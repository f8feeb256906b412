"""The numbers of a trajectory.h5 of DROID, read with h5py, which is an optional package (the extra `droid`).

An HDF5 file may name other files, as links, as external storage and as parts of virtual datasets: only what lies in the
file itself is read, and only once it is known to be small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from vlaw_assets.importers.findings import Fault
from vlaw_models.errors import VlawError
from vlaw_models.robots.spaces import JOINT_POSITION, JOINT_VELOCITY, POSE

MOST_ROWS = 200_000
"""More than an hour."""
SPACING = 0.5
"""By how much the typical time between rows may be another than the rate says, as a share."""
GAP_S = 1.0
"""Between two rows, at most."""
_GRIPPER = "observation/robot_state/gripper_position", "action/gripper_position"
STATES = {
    POSE: ("observation/robot_state/cartesian_position", _GRIPPER[0]),
    JOINT_VELOCITY: ("observation/robot_state/joint_positions", _GRIPPER[0]),
    JOINT_POSITION: ("observation/robot_state/joint_positions", _GRIPPER[0]),
}
ACTIONS = {
    POSE: ("action/cartesian_position", _GRIPPER[1]),
    JOINT_VELOCITY: ("action/joint_velocity", _GRIPPER[1]),
    JOINT_POSITION: ("action/joint_position", _GRIPPER[1]),
}
"""By what the robot is commanded in."""
WIDTH = {POSE: 6, JOINT_VELOCITY: 7, JOINT_POSITION: 7}
START = "observation/timestamp/control/step_start"
"""Milliseconds."""
SKIP = "observation/timestamp/skip_action"


@dataclass(frozen=True)
class Trajectory:
    """All rows of an episode."""

    states: np.ndarray
    """(rows, 7) float32: pose, and gripper from 0 (open) to 1 (closed); or (rows, 8): joints, and gripper."""
    actions: np.ndarray
    """The same shape: the command of each row."""
    times: np.ndarray
    """(rows,) float64 seconds from the first row."""
    skipped: int
    """Rows in which the robot was not being led."""


def require_h5py() -> None:
    """VlawError where h5py is not installed."""
    try:
        import h5py  # noqa: F401 (whether it is there)
    except ImportError as error:
        raise VlawError(
            "reading trajectory.h5 needs the package h5py, which is not installed",
            where="import droid",
            remedy="Install it with the extra 'droid': pip install 'vlaw[droid]'.",
        ) from error


def read_trajectory(file: BinaryIO, rate: float, kind: str = POSE) -> Trajectory:
    """`Fault` for what is wrong with it. `rate`: rows per second, as they are expected. `kind`: of the commands."""
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            states, actions = (_vector(opened, keys[kind], WIDTH[kind]) for keys in (STATES, ACTIONS))
            starts, skip = _dataset(opened, START, 1, needed=False), _dataset(opened, SKIP, 1, needed=False)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py's own, of a damaged file
        raise Fault(f"trajectory.h5 cannot be read: {str(error)[:160]}", rule="trajectory") from error
    if len(states) != len(actions):
        raise Fault(f"{len(states)} rows of states, {len(actions)} of actions", rule="trajectory")
    if len(states) < 2:
        raise Fault(f"{len(states)} rows: an episode has two or more", rule="trajectory")
    times = np.arange(len(states)) / rate
    if starts is not None:
        times = _times(starts[:, 0], len(states), rate)
    return Trajectory(states, actions, times, 0 if skip is None else int((skip[:, 0] != 0).sum()))


def _times(starts: np.ndarray, count: int, rate: float) -> np.ndarray:
    """Seconds from the first row. `Fault` for others than the rate lets expect."""
    if len(starts) != count:
        raise Fault(f"{len(starts)} times for {count} rows", rule="row_spacing")
    seconds = (starts - starts[0]) / 1000
    steps = np.diff(seconds)
    if (steps <= 0).any():
        row = int(np.argmax(steps <= 0)) + 1
        raise Fault(f"row {row} is not later than the one before", row, rule="row_spacing")
    if abs(float(np.median(steps)) * rate - 1) > SPACING:
        raise Fault(
            f"rows are typically {np.median(steps) * 1000:.0f} ms apart, not {1000 / rate:.0f}", rule="row_spacing"
        )
    if steps.max() > GAP_S:
        row = int(steps.argmax()) + 1
        raise Fault(f"row {row} is {steps.max():.1f} s after the one before", row, rule="row_spacing")
    return seconds


def _vector(opened: Any, keys: tuple[str, str], width: int) -> np.ndarray:
    """(rows, width + 1) float32 of a pose, or joints, and a gripper."""
    pose, gripper = _dataset(opened, keys[0], width), _dataset(opened, keys[1], 1)
    assert pose is not None
    assert gripper is not None
    if len(pose) != len(gripper):
        raise Fault(f"{len(pose)} rows of {keys[0]}, {len(gripper)} of {keys[1]}", rule="trajectory")
    values = np.concatenate([pose, gripper], axis=1).astype(np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise Fault(
            f"{keys[0]} or its gripper is NaN or infinite in row {bad[0][0]}", int(bad[0][0]), rule="not_finite"
        )
    return values


def _dataset(opened: Any, key: str, width: int, *, needed: bool = True) -> np.ndarray | None:
    """(rows, width) float64 of a dataset that lies in this very file; None where it is not there and not needed."""
    import h5py

    place = opened
    for part in key.split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            if needed:
                raise Fault(f"trajectory.h5 has no {key}", rule="trajectory")
            return None
        if not isinstance(link, h5py.HardLink):
            raise Fault(f"{key} is a link to somewhere else", rule="trajectory")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.external or place.is_virtual:
        raise Fault(f"{key} is no dataset of this file", rule="trajectory")
    wide = place.shape[1:] == (width,) or (width == 1 and place.ndim == 1)
    if not wide or place.shape[0] > MOST_ROWS or place.dtype.kind not in "fiub":
        raise Fault(
            f"{key} is {place.dtype} {place.shape}, must be numbers (rows, {width}), at most {MOST_ROWS}",
            rule="trajectory",
        )
    return np.asarray(place[()], np.float64).reshape(-1, width)
