"""The layout of a LeRobot dataset v3.0: its files, its features, and the columns that are ours.

Of an unknown outcome `next.success` says neither true nor false: where every episode was judged it is a bool, as
LeRobot itself writes it, else a float that is NaN in every row of an episode that nobody judged. LeRobot's loader gives
None for a null, which no batch can hold; NaN it can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vlaw_models.errors import VlawError

INFO, STATS, TASKS, CARD = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "README.md"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK = 1000
"""Files in a folder."""
IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
REAL, IMAGINED = "real", "imagined"
MADE_UP = "+imagined"
"""End of the robot's type in a dataset with imagined episodes: LeRobot merges only datasets of one type."""
SUCCESS, FAILURE, UNKNOWN = "success", "failure", "unknown"
CAMERA = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

OWN = {
    "origin": ("string", "`real`, or `imagined`: frames after the first are a world model's."),
    "outcome": ("string", "`success`, `failure` or `unknown`, of the whole episode, by the labels in force."),
    "task_category": ("string", "Category of the task; the instruction is LeRobot's own `task`."),
    "score": ("float32", "P(yes) of the newest reward model that judged the episode; NaN where none did."),
    "artifact_id": ("string", "The artifact of vlaw's ledger that holds the episode."),
    "episode_id": ("string", "Id of the episode in vlaw."),
    "start_episode_id": (
        "string",
        "Of an imagined episode: the real one whose first frame it starts from; else empty.",
    ),
}
"""Our columns: (type, meaning)."""
MEMBER = {
    "weight": ("float32", "How much the episode counts in the training set."),
    "positive": ("bool", "Whether the training set takes it as an example to follow."),
}
"""Our columns of a training set."""
_LEROBOTS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"} | {
    "task_index": "int64"
}
_ARROW = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_(), "string": pa.string()}


@dataclass(frozen=True)
class Codec:
    """How videos are compressed."""

    name: str
    """As LeRobot writes it down."""
    encoder: str
    """FFmpeg's name."""
    quality: int
    """Constant rate factor."""
    preset: str
    more: tuple[tuple[str, str], ...]
    """Further options of the encoder."""


CODECS = {
    "av1": Codec("av1", "libsvtav1", 30, "12", (("svtav1-params", "fast-decode=0"),)),
    "h264": Codec("h264", "libx264", 18, "veryfast", (("bf", "0"), ("sc_threshold", "0"))),
}
"""AV1 as LeRobot encodes it; H.264 at the quality that is commonly taken for visually lossless."""
KEY_EVERY = 2
"""Frames between two that stand alone, as LeRobot has it: training reads single frames."""


@dataclass(frozen=True)
class Storage:
    """Which version of the format, and what its files are called."""

    version: str
    data: str
    videos: str
    vector: str
    """What `datasets`, in the release that reads this version, calls a list of numbers."""
    apart: bool = False
    """Whether every episode has files of its own."""


THREE = Storage(
    "v3.0",
    "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "List",
)
TWO = Storage(
    "v2.1",
    "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "Sequence",
    apart=True,
)
FILES, LANCE, OLD = "files", "lance", "v2.1"
STORAGES = {FILES: THREE, LANCE: THREE, OLD: TWO}
"""By name; the tables of `lance` are made from files."""


@dataclass(frozen=True)
class Layout:
    """What all episodes of a dataset have in common."""

    rate: float
    """Frames per second: control steps."""
    robot_type: str
    cameras: tuple[str, ...]
    size: tuple[int, int]
    """(height, width) of a frame."""
    state: tuple[str, ...]
    action: tuple[str, ...]
    """Names of their numbers."""
    judged: bool
    """Whether somebody judged every episode."""
    weighted: bool
    """Whether they are the members of a training set."""
    codec: Codec
    storage: str = FILES

    def __post_init__(self) -> None:
        wrong = next((name for name in self.cameras if not CAMERA.fullmatch(name)), None)
        if wrong is not None:
            raise VlawError(
                f"camera {wrong!r} cannot be part of a file's name",
                where="vlaw export lerobot",
                remedy="Import the recording with another --robot, whose cameras have plain names.",
            )

    @property
    def files(self) -> Storage:
        return STORAGES[self.storage]

    @property
    def video_keys(self) -> tuple[str, ...]:
        return tuple(f"{IMAGES}{name}" for name in self.cameras)

    @property
    def pixels(self) -> str:
        """FFmpeg's pixel format: colours at half the resolution, which needs even sides, or at the full one."""
        return "yuv420p" if not (self.size[0] % 2 or self.size[1] % 2) else "yuv444p"

    @property
    def fps(self) -> int | float:
        return int(self.rate) if self.rate == int(self.rate) else self.rate

    def columns(self) -> dict[str, tuple[str, int]]:
        """Column of the data files -> (type, how many numbers), in their order."""
        own = OWN | (MEMBER if self.weighted else {})
        return {
            STATE: ("float32", len(self.state)),
            ACTION: ("float32", len(self.action)),
            "next.success": ("bool" if self.judged else "float32", 1),
            "next.reward": ("float32", 1),
            "next.done": ("bool", 1),
            **{name: (kind, 1) for name, (kind, _) in own.items()},
            **{name: (kind, 1) for name, kind in _LEROBOTS.items()},
        }

    @property
    def may_be_unknown(self) -> frozenset[str]:
        """Columns that are NaN in whole episodes."""
        return frozenset({"score"} if self.judged else {"score", "next.success", "next.reward"})

    def schema(self) -> pa.Schema:
        """Of the data files, with the features as Hugging Face's `datasets` keeps them."""
        fields, features = [], {}
        for name, (kind, count) in self.columns().items():
            value = {"dtype": kind, "_type": "Value"}
            vector = name in (STATE, ACTION) and count > 1
            fields.append(
                pa.field(name, pa.list_(pa.field("element", _ARROW[kind]), count) if vector else _ARROW[kind])
            )
            features[name] = {"feature": value, "length": count, "_type": self.files.vector} if vector else value
        return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})

    def features(self) -> dict[str, Any]:
        """As info.json has them."""
        height, width = self.size
        names: Mapping[str, tuple[str, ...]] = {STATE: self.state, ACTION: self.action}
        video = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": self.codec.name,
                "video.pix_fmt": self.pixels,
                "video.fps": self.fps,
                "video.channels": 3,
                "has_audio": False,
                "video.g": KEY_EVERY,
                "video.crf": self.codec.quality,
                "video.preset": int(self.codec.preset) if self.codec.preset.isdecimal() else self.codec.preset,
                "video.video_backend": "pyav",
                "is_depth_map": False,
            },
        }
        return {
            **dict.fromkeys(self.video_keys, video),
            **{
                name: {"dtype": kind, "shape": [count], "names": list(names[name]) if name in names else None}
                for name, (kind, count) in self.columns().items()
            },
        }


@dataclass(frozen=True)
class Place:
    """Which of the files with numbers in their names."""

    chunk: int = 0
    file: int = 0

    def next(self) -> Place:
        return Place(self.chunk + 1, 0) if self.file == CHUNK - 1 else Place(self.chunk, self.file + 1)

    def path(self, pattern: str, key: str = "") -> str:
        """`pattern` with this place; where every episode has a file of its own, it is the episode's number too."""
        episode = {"episode_chunk": self.chunk, "episode_index": self.chunk * CHUNK + self.file}
        return pattern.format(video_key=key, chunk_index=self.chunk, file_index=self.file, **episode)
