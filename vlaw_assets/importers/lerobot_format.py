"""meta/info.json of a LeRobot dataset: what it says of itself, each word checked before anything goes by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlaw_assets.importers.files import BROKEN, Folder, shown, template
from vlaw_models.errors import VlawError

INFO = "meta/info.json"
VERSION = re.compile(r"v?(2\.[01]|3(\.\d{1,3})*)")
MAX_FPS = 10_000.0
MAX_EPISODES, MAX_FRAMES = 10**7, 10**11
MAX_FEATURES, MAX_NUMBERS = 2000, 4096
CHUNKS_SIZE = 1000
"""Episodes of a chunk of version 2 where it does not say."""
SAYS_NO = (None, False, 0, "", "false", "False", "0", "no")
PICTURES = ("video", "image")
DEEP_PIXELS = re.compile(r"gray(9|1\d|f)|y1\d|depth", re.IGNORECASE)
"""Pixel formats of one channel with more than eight bits."""


@dataclass(frozen=True)
class Feature:
    """One column of the dataset, or one of its cameras, as info.json declares it."""

    key: str
    dtype: str
    shape: tuple[int, ...] | None
    """None where it is no list of whole numbers from 1."""
    names: tuple[str, ...] | None
    """Of a vector's numbers, or of a picture's axes; None where they are no such list of texts."""
    depth: bool = False
    """Whether it is marked as a depth map."""

    @property
    def pictures(self) -> bool:
        return self.dtype in PICTURES

    @property
    def width(self) -> int | None:
        """How many numbers a row has; None where it is no vector."""
        return self.shape[0] if self.shape is not None and len(self.shape) == 1 else None


@dataclass(frozen=True)
class Info:
    """What info.json says, checked."""

    version: int
    """2 or 3: the layout."""
    storage: str
    """'files', or 'lance'."""
    fps: float
    robot_type: str
    features: Mapping[str, Feature]
    episodes: int
    frames: int
    chunks_size: int
    data_path: str
    video_path: str
    """'' where no feature is a video."""
    where: str

    def frame_size(self, key: str) -> tuple[int, int]:
        """(height, width) of a camera's frames, as declared. VlawError where it does not say."""
        feature = self.features[key]
        shape, names = feature.shape, feature.names
        if shape is None or len(shape) not in (2, 3):
            raise VlawError(f"the shape of {key} is no picture's", where=self.where, remedy=BROKEN)
        if names is not None and len(names) == len(shape) and {"height", "width"} <= set(names):
            return shape[names.index("height")], shape[names.index("width")]
        first = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
        return (shape[1], shape[2]) if first else (shape[0], shape[1])

    def vectors(self) -> list[str]:
        """Keys of the features that are vectors of numbers, of more than one."""
        return [
            key
            for key, feature in self.features.items()
            if feature.dtype.startswith(("float", "int")) and (feature.width or 0) > 1
        ]


def read_info(folder: Folder) -> Info:
    """Raises VlawError for the first thing that is wrong with it."""
    where = str(folder.root / INFO)
    found = folder.json(INFO, what="dataset description")
    version = found.get("codebase_version") if isinstance(found, dict) else None
    if not isinstance(version, str):
        raise VlawError(
            "this is not a LeRobot dataset: info.json has no codebase_version",
            where=where,
            remedy="Give the folder of a LeRobot dataset v2.0, v2.1 or v3.0.",
        )
    if not VERSION.fullmatch(version):
        raise VlawError(
            f"the dataset has version {shown(version)[1:41]}; v2.0, v2.1 and v3.0 can be imported",
            where=where,
            remedy="Convert it with LeRobot's own converter to v3.0 first.",
        )
    number = int(version.removeprefix("v")[0])
    storage = found.get("storage_format")
    if storage not in (None, "parquet", "lance") or (storage == "lance" and number != 3):
        raise VlawError(
            f"the dataset is stored as {shown(storage)}",
            where=where,
            remedy="Convert it to parquet or Lance with LeRobot's own tools.",
        )
    features = _features(found.get("features"), where)
    videos = any(feature.dtype == "video" for feature in features.values()) and storage != "lance"
    fields = {"chunk_index": False, "file_index": False}
    if number == 2:
        fields = {"episode_chunk": False, "episode_index": True}
    video_fields = {**fields, "video_key": sum(feature.dtype == "video" for feature in features.values()) > 1}
    return Info(
        number,
        "lance" if storage == "lance" else "files",
        _rate(found.get("fps"), where),
        shown(found.get("robot_type") or "unknown").strip("'\""),
        features,
        _count(found, "total_episodes", MAX_EPISODES, where),
        _count(found, "total_frames", MAX_FRAMES, where),
        _count(found, "chunks_size", MAX_EPISODES, where) if "chunks_size" in found and number == 2 else CHUNKS_SIZE,
        template(found.get("data_path"), fields, "data_path", where) if storage != "lance" else "",
        template(found.get("video_path"), video_fields, "video_path", where) if videos else "",
        where,
    )


def _rate(fps: Any, where: str) -> float:
    if not isinstance(fps, bool) and isinstance(fps, int | float) and 0 < fps <= MAX_FPS:
        return float(fps)
    raise VlawError(
        f"fps is {shown(fps)}",
        where=where,
        remedy=f"Rows per second are expected, above 0 and at most {MAX_FPS:g}: mend info.json.",
    )


def _count(found: Mapping[str, Any], key: str, most: int, where: str) -> int:
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise VlawError(f"{key} is {shown(value)}", where=where, remedy=BROKEN)
    return value


def _features(found: Any, where: str) -> dict[str, Feature]:
    if not isinstance(found, dict) or not found or len(found) > MAX_FEATURES:
        raise VlawError("info.json has no table of features", where=where, remedy=BROKEN)
    features = {}
    for key, value in found.items():
        if not isinstance(value, dict):
            raise VlawError(f"feature {shown(key)} is {shown(value)}", where=where, remedy=BROKEN)
        dtype = value.get("dtype")
        features[key] = Feature(
            key,
            dtype if isinstance(dtype, str) else "",
            _shape(value.get("shape")),
            _names(value.get("names")),
            _depth(value),
        )
    return features


def _shape(found: Any) -> tuple[int, ...] | None:
    if not isinstance(found, list) or len(found) > 8:
        return None
    whole = all(not isinstance(n, bool) and isinstance(n, int) and 0 < n < 2**31 for n in found)
    return tuple(found) if whole else None


def _names(found: Any) -> tuple[str, ...] | None:
    """Names of a vector's numbers, or of axes, of the ways in which recorders write them: a list, a list in a list, a
    list in a table, a table of places."""
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        places = {key: value for key, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}
        if len(lists) == 1:
            found = lists[0]
        elif not lists and sorted(places.values()) == list(range(len(found))):
            found = sorted(places, key=places.__getitem__)
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if not isinstance(found, list) or not 0 < len(found) <= MAX_NUMBERS:
        return None
    return tuple(found) if all(isinstance(name, str) for name in found) else None


def _depth(feature: Mapping[str, Any]) -> bool:
    """Whether a camera's feature says, in any spelling, that it holds distances and not colours."""
    info = feature.get("info", feature.get("video_info"))
    tables = [table for table in (feature, info) if isinstance(table, dict)]
    for table in tables:
        for key in ("is_depth_map", "video.is_depth_map", "is_depth"):
            value = table.get(key)
            if not any(value is no or value == no for no in SAYS_NO):
                return True
        for key in ("pix_fmt", "video.pix_fmt"):
            value = table.get(key)
            if isinstance(value, str) and DEEP_PIXELS.match(value):
                return True
    dtype = feature.get("dtype")
    return isinstance(dtype, str) and "depth" in dtype
