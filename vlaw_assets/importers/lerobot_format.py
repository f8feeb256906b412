"""The layout of a LeRobot dataset v3.0: its metadata, read and checked before any episode is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlaw_assets.importers.cameras import check_shape, choose_cameras
from vlaw_assets.importers.files import BROKEN, inside, read_parquet, template
from vlaw_assets.importers.lerobot_index import Span, index_files, read_spans
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec

VERSION = re.compile(r"v?3(\.\d+)*")


class RobotFor(Protocol):
    """Which robot a recording is of: `importers.base.robot_of`, of an import's options."""

    def __call__(self, *, called: str, cameras: Sequence[str], where: str) -> RobotSpec: ...


@dataclass(frozen=True)
class Dataset:
    """Metadata of a LeRobot v3 dataset whose parts agree with each other."""

    root: Path
    fps: float
    robot: RobotSpec
    robot_type: str
    """What the dataset itself calls the robot."""
    features: Mapping[str, Mapping[str, Any]]
    cameras: Mapping[str, str]
    """The robot's camera -> feature key, in the order of its cameras."""
    spans: tuple[Span, ...]
    data_path: str
    video_path: str
    tasks: Mapping[int, str]

    def names(self, key: str) -> list[str] | None:
        """What a vector feature's numbers are called; None where it does not say, one by one."""
        found, shape = self.features[key].get("names"), self.features[key].get("shape")
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            return None
        return found if isinstance(shape, Sequence) and list(shape) == [len(found)] else None

    def frame_size(self, key: str) -> tuple[int, int]:
        """(height, width) of a camera feature's frames, as declared. VlawError where it does not say."""
        shape, names = self.features[key].get("shape"), self.features[key].get("names")
        if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
            raise VlawError(f"the shape of {key} is {shape!r}", where=str(self.root / "meta/info.json"), remedy=BROKEN)
        named = names if isinstance(names, list) and {"height", "width"} <= set(map(str, names[:3])) else ()
        return (shape[named.index("height")], shape[named.index("width")]) if named else (shape[0], shape[1])

    def data_file(self, place: tuple[int, int]) -> Path:
        relative = self.data_path.format(chunk_index=place[0], file_index=place[1])
        return inside(self.root, relative, what="data file")

    def video_file(self, key: str, place: tuple[int, int]) -> Path:
        relative = self.video_path.format(video_key=key, chunk_index=place[0], file_index=place[1])
        return inside(self.root, relative, what=f"video file of camera {key}")

    def files(self) -> list[Path]:
        """Every file an import reads, sorted, each once."""
        found = {*index_files(self.root), self.root / "meta/info.json", self.root / "meta/tasks.parquet"}
        for span in self.spans:
            found.add(self.data_file(span.data))
            found.update(self.video_file(key, span.videos[key][:2]) for key in self.cameras.values())
        return sorted(path for path in found if path.is_file())


def open_dataset(path: Path | str, robot_for: RobotFor, cameras: Mapping[str, str]) -> Dataset:
    """Reads and checks the metadata of a dataset; `cameras` is {the robot's camera: feature key}, or {}: found by name.

    Raises VlawError for the first thing that is wrong with it.
    """
    root = Path(path).expanduser()
    if not (root / "meta" / "info.json").is_file():
        raise VlawError(
            "this is not a LeRobot dataset: it has no meta/info.json",
            where=str(root),
            remedy="Give the folder that contains meta/, data/ and videos/.",
        )
    root = root.resolve()
    info = _info(root)
    where = str(root / "meta/info.json")
    features = info["features"]
    for key in ("observation.state", "action"):
        if key not in features:
            raise VlawError(
                f"the dataset has no feature {key!r}",
                where=where,
                remedy="Only datasets with observation.state and action as one vector each can be imported.",
            )
    called = str(info.get("robot_type") or "unknown")
    names = [*cameras, *(key.rsplit(".", 1)[-1] for key in features)]
    robot = robot_for(called=called, cameras=names, where=where)
    chosen = choose_cameras(features, robot, cameras, where=where)
    data_path = template(info.get("data_path"), {"chunk_index", "file_index"}, "data_path", where)
    video_path = template(info.get("video_path"), {"chunk_index", "file_index", "video_key"}, "video_path", where)
    spans = read_spans(root, info, list(chosen.values()))
    dataset = Dataset(
        root,
        float(info["fps"]),
        robot,
        called,
        features,
        chosen,
        spans,
        data_path,
        video_path,
        _tasks(root),
    )
    for key in chosen.values():
        check_shape(robot, dataset.frame_size(key), where=f"{where}, feature {key!r}")
    dataset.files()  # resolves every path once: a missing or outlying file is known before anything is read
    return dataset


def _info(root: Path) -> dict[str, Any]:
    path = inside(root, "meta/info.json", what="dataset description")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise VlawError(f"meta/info.json is not readable JSON: {error}", where=str(path), remedy=BROKEN) from error
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if not isinstance(version, str):
        raise VlawError(
            "this is not a LeRobot dataset: info.json has no codebase_version",
            where=str(path),
            remedy="Give the folder of a LeRobot dataset v3.0.",
        )
    if not VERSION.fullmatch(version):
        raise VlawError(
            f"the dataset has version {version[:40]}, only v3.0 can be imported",
            where=str(path),
            remedy="Convert it with LeRobot's own converter to v3.0 first.",
        )
    fps, features = info.get("fps"), info.get("features")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not math.isfinite(fps) or fps <= 0:
        raise VlawError(f"fps is {fps!r}", where=str(path), remedy=BROKEN)
    if not isinstance(features, dict) or not all(isinstance(value, dict) for value in features.values()):
        raise VlawError("info.json has no table of features", where=str(path), remedy=BROKEN)
    for key in ("total_episodes", "total_frames"):
        if isinstance(info.get(key), bool) or not isinstance(info.get(key), int):
            raise VlawError(f"{key} is {info.get(key)!r}", where=str(path), remedy=BROKEN)
    return info


def _tasks(root: Path) -> dict[int, str]:
    """task_index -> task, from meta/tasks.parquet (the text is the table's index, whatever its name)."""
    table = read_parquet(inside(root, "meta/tasks.parquet", what="task table"))
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or not texts:
        raise VlawError(
            "the task table has no task_index or no text", where=str(root / "meta/tasks.parquet"), remedy=BROKEN
        )
    text = "task" if "task" in texts else texts[0]
    return {row["task_index"]: str(row[text]) for row in table.select(["task_index", text]).to_pylist()}
