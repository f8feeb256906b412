"""DROID as it was recorded, small: an arm that swings its joints by velocities before three grey cameras."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from vlaw_assets.importers.droid import RATE, SHAPE

SERIALS = ("11111111", "22222222", "33333333")
REST = np.array([0.0, -0.5, 0.0, -2.0, 0.0, 1.5, 0.0])
"""Radians of the seven joints."""


def write_droid(root: Path, episodes: Sequence[tuple[str, bool]], *, rows: int, seed: int) -> Path:
    """A folder per episode: `current_task`, success, a trajectory of `rows` at 15 Hz, three videos.

    The numbers of an episode follow from `seed` and its place; the pictures are the same in all.
    """
    import h5py

    rng = np.random.default_rng(seed)
    for number, (task, success) in enumerate(episodes):
        uuid = f"LAB+{seed:04d}+{number:04d}"
        folder = root / "LAB" / ("success" if success else "failure") / f"episode_{number}"
        for view, serial in enumerate(SERIALS):
            write_once(root / f"{serial}.mp4", rows, view, folder / f"recordings/MP4/{serial}.mp4")
        metadata = {
            "uuid": uuid,
            "success": success,
            "current_task": task,
            "trajectory_length": rows,
            **{f"{name}_cam_serial": serial for name, serial in zip(("ext1", "ext2", "wrist"), SERIALS, strict=True)},
        }
        (folder / f"metadata_{uuid}.json").write_text(json.dumps(metadata))
        phase = rng.uniform(0, 2 * np.pi, 7) + np.linspace(0, np.pi, rows)[:, None]
        with h5py.File(folder / "trajectory.h5", "w") as file:
            file["observation/robot_state/joint_positions"] = REST + 0.05 * np.sin(phase)
            file["action/joint_velocity"] = 0.1 * np.cos(phase)
            for group in ("observation/robot_state", "action"):
                file[f"{group}/gripper_position"] = np.linspace(0, 0.5, rows)
            file["observation/timestamp/control/step_start"] = np.arange(rows) * 1000 / RATE
    return root


def write_once(whole: Path, rows: int, view: int, path: Path) -> None:
    """The video of a view, written the first time and linked from then on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not whole.exists():
        height, width = SHAPE
        with av.open(str(whole), "w") as container:
            stream = container.add_stream("mpeg4", rate=int(RATE))
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for row in range(rows):
                level = np.full((height, width, 3), 20 + 60 * view + row, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
            container.mux(stream.encode())
    os.link(whole, path)
