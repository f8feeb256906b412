"""One annotation of Ctrl-World's layout: a JSON file with the numbers of an episode and the names of its other files.

States are at the rate of the videos, commands and further states at three times that: row 3 k belongs to frame k, also
where the number of rows is no multiple of three. Some annotations have states alone, some lack `raw_length`, and
`episode_id` is a number or a text with zeros before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlaw_assets.importers.base import UNNAMED_TASK
from vlaw_assets.importers.files import shown
from vlaw_assets.importers.findings import Fault
from vlaw_models.robots.spaces import JOINT_POSITION, JOINT_VELOCITY

POSE = 7
"""x, y, z (metres), roll, pitch, yaw (radians), gripper (0 open to 1 closed)."""
STRIDE = 3
"""Rows of the robot per frame."""
NEAR = 1e-4
"""By how much two records of one state may differ: metres, radians."""
STATES = "observation.state.cartesian_position", "observation.state.gripper_position"
COMMANDS = "action.cartesian_position", "action.gripper_position"
JOINTS = 7
JOINT_STATES = "observation.state.joint_position", "observation.state.gripper_position"
JOINT_COMMANDS = {
    JOINT_VELOCITY: ("action.joint_velocity", "action.gripper_position"),
    JOINT_POSITION: ("action.joint_position", "action.gripper_position"),
}


@dataclass(frozen=True)
class Annotation:
    """What is read of one."""

    instruction: str
    success: bool | None
    states: np.ndarray
    """(T, 7) float32."""
    actions: np.ndarray
    """(T - 1, 7) float32: the last pose commanded in each control step; without commands the state that followed."""
    videos: tuple[str, ...]
    """Relative path of each view."""
    latents: tuple[str, ...]
    """The same of its latents; () where none are named."""
    notes: tuple[tuple[str, str], ...] = ()
    """(rule, text) of what is odd, and no fault."""
    commanded: bool = True
    joints: np.ndarray | None = None
    """(T, 8) float32: seven joints and the gripper of each frame; None where they were not recorded."""
    joint_commands: dict[str, np.ndarray] = field(default_factory=dict)
    """Kind of command in joints -> (T - 1, 3 * 8) float32: the commands within each control step, in their order."""


def annotation(found: Any, name: str, views: int) -> Annotation:
    """Of the content of the file `name` (its stem). `Fault` where it is no episode."""
    if not isinstance(found, dict):
        raise Fault("the file holds no episode", rule="annotation")
    slow, fast, commands = _numbers(found, "states", POSE), _pair(found, STATES), _pair(found, COMMANDS)
    joints = _pair(found, JOINT_STATES, JOINTS)
    in_joints = {kind: _pair(found, keys, JOINTS) for kind, keys in JOINT_COMMANDS.items()}
    states = slow if slow is not None else None if fast is None else fast[::STRIDE]
    if states is None:
        raise Fault("there are neither states nor observation.state.cartesian_position", rule="states")
    length = len(states)
    if length < 2:
        raise Fault(f"{length} states: an episode has two frames or more", rule="states")
    raw = found.get("raw_length")
    recorded = [("observation.state", fast), ("observation.state.joint_position", joints), ("action", commands)]
    for what, rows in [*recorded, *((JOINT_COMMANDS[kind][0], rows) for kind, rows in in_joints.items())]:
        if rows is None:
            continue
        if not (length - 1) * STRIDE < len(rows) <= length * STRIDE:
            raise Fault(
                f"{len(rows)} rows of {what} do not fit {length} states: their rates have no whole ratio", rule="rates"
            )
        if isinstance(raw, int) and raw != len(rows):
            raise Fault(f"raw_length is {raw}, there are {len(rows)} rows of {what}", rule="raw_length")
    if slow is not None and fast is not None:
        apart = np.abs(slow - fast[::STRIDE]).max(axis=1)
        if apart.max() > NEAR:
            raise Fault(
                f"the state of frame {apart.argmax()} is not that of its row", int(apart.argmax()), rule="rates"
            )
    for key in ("video_length", "state_length"):
        if isinstance(count := found.get(key), int) and count != length:
            raise Fault(f"{key} is {count}, there are {length} states", rule="length")
    texts = found.get("texts")
    if not isinstance(texts, list) or len(texts) != 1 or not isinstance(texts[0], str):
        raise Fault(f"texts is {shown(texts)}, which is not one instruction", rule="instruction")
    success = found.get("success")
    if success is not None and (isinstance(success, float) or success not in (0, 1)):
        raise Fault(f"success is {shown(success)}: labels are 1 or 0", rule="success")
    return Annotation(
        texts[0].strip() or UNNAMED_TASK,
        None if success is None else bool(success),
        states,
        states[1:] if commands is None else commands[np.arange(1, length) * STRIDE - 1],
        _paths(found, "videos", "video_path", views),
        _paths(found, "latent_videos", "latent_video_path", views) if found.get("latent_videos") else (),
        tuple(_notes(found, name)),
        commands is not None,
        None if joints is None else joints[::STRIDE],
        {
            kind: rows[: (length - 1) * STRIDE].reshape(length - 1, -1)
            for kind, rows in in_joints.items()
            if rows is not None
        },
    )


def _notes(found: dict[str, Any], name: str) -> list[tuple[str, str]]:
    own = found.get("episode_id")
    if own is None or str(own).lstrip("0") == name.lstrip("0"):
        return []
    return [("episode_id", f"the annotation calls itself {shown(own)}, its file is {name}.json")]


def _pair(found: dict[str, Any], keys: tuple[str, str], width: int = POSE - 1) -> np.ndarray | None:
    """(rows, width + 1) float32 of a pose, or joints, and a gripper; None where there is neither, nor joints. `Fault`
    where one is missing."""
    pose, gripper = _numbers(found, keys[0], width), _numbers(found, keys[1], 1)
    if pose is None and (gripper is None or width == JOINTS):
        return None
    if pose is None or gripper is None:
        raise Fault(f"{keys[0] if pose is None else keys[1]} is missing", rule="numbers")
    if len(pose) != len(gripper):
        raise Fault(f"{len(pose)} rows of {keys[0]}, {len(gripper)} of {keys[1]}", rule="numbers")
    return np.concatenate([pose, gripper], axis=1)


def _numbers(found: dict[str, Any], key: str, width: int) -> np.ndarray | None:
    """(rows, width) float32; None where there are none."""
    if found.get(key) is None:
        return None
    try:
        values = np.asarray(found[key], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise Fault(f"{key} is not a table of numbers", rule="numbers") from error
    values = values[:, None] if values.ndim == 1 and width == 1 else values
    if values.ndim != 2 or values.shape[1] != width:
        raise Fault(f"{key} has shape {values.shape}, must be (rows, {width})", rule="numbers")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise Fault(f"{key} is NaN or infinite in row {bad[0][0]}", int(bad[0][0]), rule="not_finite")
    return values


def _paths(found: dict[str, Any], key: str, inner: str, views: int) -> tuple[str, ...]:
    paths = []
    for view in range(views):
        try:
            path = found[key][view][inner]
        except (KeyError, IndexError, TypeError) as error:
            raise Fault(f"no {inner.removesuffix('_path')} is named for view {view}", rule=key) from error
        if not isinstance(path, str):
            raise Fault(f"the path of view {view} is {shown(path)}", rule=key)
        paths.append(path)
    return tuple(paths)
