"""A small LeRobot v3.0 dataset (15 Hz, three cameras, h, w = 24, 40), whose every number is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlaw_assets.importers.base import Recordings
from vlaw_models.episodes import Episode
from vlaw_models.robots.registry import ROBOTS
from vlaw_models.robots.spec import EXTERIOR, WRIST, Camera, RobotSpec, Vector

CAMERAS = ("observation.images.front", "observation.images.side", "observation.images.wrist")
ARM = RobotSpec(
    name="arm",
    cameras=(Camera("exterior_1", EXTERIOR), Camera("exterior_2", EXTERIOR), Camera("wrist", WRIST)),
    control_hz=5.0,
    state=Vector(("up", "down"), ("m", "m")),
    action=Vector(("a", "b", "c"), ("", "", "")),
    world="arm",
    success="labelled by whoever recorded it",
)
ROBOTS.add("arm", f"{__name__}:ARM")
_POSE = Vector(("x", "y", "z", "roll", "pitch", "yaw", "gripper"), ("m", "m", "m", "rad", "rad", "rad", ""))
CELL = RobotSpec(
    name="cell",
    cameras=(Camera("left", EXTERIOR), Camera("right", EXTERIOR), Camera("hand", WRIST)),
    control_hz=5.0,
    state=_POSE,
    action=_POSE,
    world="cell",
    success="labelled by whoever recorded it",
)
"""Of the import cases: poses without limits, which count rows."""
ROBOTS.add("cell", f"{__name__}:CELL")
LENGTHS = (10, 9, 7)
EPISODE_TABLE = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
VIDEO = "videos/{}/chunk-000/file-000.mp4"


def write_video(path: Path, levels: list[int], size: tuple[int, int] = (24, 40)) -> None:
    """Frame k is plain grey of brightness levels[k]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = 1
        stream.codec_context.bit_rate = 20_000_000
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def brightness(camera: int, row: int) -> int:
    return 20 + 25 * camera + 6 * row


def write_lerobot(root: Path, lengths: Sequence[int] = LENGTHS) -> Path:
    """Three episodes at 15 Hz; row r has state (r, -r), action (10 r, 0, 0); success yes, no, unknown. `lengths`: rows
    of other episodes, the later ones failures."""
    total = sum(lengths)
    features = {
        key: {"dtype": "video", "shape": [24, 40, 3], "names": ["height", "width", "channels"]} for key in CAMERAS
    }
    features |= {
        "observation.state": {"dtype": "float32", "shape": [2]},
        "action": {"dtype": "float32", "shape": [3]},
        "next.success": {"dtype": "bool", "shape": [1]},
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(
        json.dumps(
            {
                "codebase_version": "v3.0",
                "fps": 15,
                "robot_type": "arm",
                "features": features,
                "total_episodes": len(lengths),
                "total_frames": total,
                "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
                "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            }
        )
    )
    begins = np.cumsum([0, *lengths])
    rows = [
        {
            "episode_index": i,
            "length": n,
            "tasks": ["lift the cup"],
            "dataset_from_index": int(begins[i]),
            "dataset_to_index": int(begins[i + 1]),
            "data/chunk_index": 0,
            "data/file_index": 0,
        }
        | {
            f"videos/{key}/{name}": value
            for key in CAMERAS
            for name, value in (
                ("chunk_index", 0),
                ("file_index", 0),
                ("from_timestamp", begins[i] / 15),
                ("to_timestamp", begins[i + 1] / 15),
            )
        }
        for i, n in enumerate(lengths)
    ]
    index = np.arange(total)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    success = [None if e == 2 else bool(e == 0 and r == lengths[0] - 1) for e, r in zip(episode, index, strict=True)]
    data = {
        "observation.state": [[float(r), -float(r)] for r in index],
        "action": [[10.0 * r, 0.0, 0.0] for r in index],
        "next.success": success,
        "episode_index": episode,
        "frame_index": index - begins[episode],
        "index": index,
        "task_index": np.where(episode == 1, 1, 0),
    }
    for name, table in (
        (EPISODE_TABLE, pa.Table.from_pylist(rows)),
        (DATA, pa.table(data)),
        ("meta/tasks.parquet", pa.table({"task_index": [0, 1], "task": ["lift the cup", ""]})),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / name)
    for camera, key in enumerate(CAMERAS):
        write_video(root / VIDEO.format(key), [brightness(camera, row) % 256 for row in range(total)])
    return root


def every_episode(recordings: Recordings) -> list[Episode]:
    """What reading all of it gives, where nothing is excluded."""
    found = list(recordings.read(range(len(recordings.index))))
    assert not [read.findings for read in found if read.excluded]
    return [read.episode for read in found if read.episode is not None]
