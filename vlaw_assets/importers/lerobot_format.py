"""The layout of a LeRobot dataset v3.0: its metadata, read and checked before any episode is.

Here: info.json, the episode index, where files are, which cameras there are. Not here: rows and videos (lerobot.py).
A dataset may come from anybody: path templates are format strings out of a JSON file, so only plain number fields are
allowed in them and every path must resolve to a regular file inside the dataset's folder.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import EXTERIOR, WRIST, RobotSpec

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = re.compile(r"v?3(\.\d+)*")
NUMBER = re.compile(r"(0?\d?\d?d)?")
"""Format of a number in a path template, e.g. 03d; a width of at most two digits."""
WRIST_WORDS = ("wrist", "hand", "gripper")
BROKEN = "Copy the dataset again, or repair it with LeRobot's own tools (a recording must be finalized)."


@dataclass(frozen=True)
class Span:
    """One episode, where it says it is."""

    index: int
    length: int
    begin: int
    """First row of the dataset that belongs to it."""
    tasks: tuple[str, ...]
    data: tuple[int, int]
    """(chunk, file) of its rows."""
    videos: Mapping[str, tuple[int, int, float, float]]
    """Per camera feature: (chunk, file, from, to), seconds within that file."""


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

    def data_file(self, place: tuple[int, int]) -> Path:
        relative = self.data_path.format(chunk_index=place[0], file_index=place[1])
        return inside(self.root, relative, what="data file")

    def video_file(self, key: str, place: tuple[int, int]) -> Path:
        relative = self.video_path.format(video_key=key, chunk_index=place[0], file_index=place[1])
        return inside(self.root, relative, what=f"video file of camera {key}")

    def files(self) -> list[Path]:
        """Every file an import reads, sorted, each once."""
        found = {*_index_files(self.root), self.root / "meta/info.json", self.root / "meta/tasks.parquet"}
        for span in self.spans:
            found.add(self.data_file(span.data))
            found.update(self.video_file(key, span.videos[key][:2]) for key in self.cameras.values())
        return sorted(path for path in found if path.is_file())


def open_dataset(path: Path | str, robot_for: RobotFor, cameras: Mapping[str, str] | None = None) -> Dataset:
    """Reads and checks the metadata of a dataset. Raises VlawError for the first thing that is wrong with it."""
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
    names = [*(cameras or ()), *(key.rsplit(".", 1)[-1] for key in features)]
    robot = robot_for(called=called, cameras=names, where=where)
    chosen = choose_cameras(features, robot, cameras, where=where)
    data_path = _template(info.get("data_path"), {"chunk_index", "file_index"}, "data_path", where)
    video_path = _template(info.get("video_path"), {"chunk_index", "file_index", "video_key"}, "video_path", where)
    spans = _spans(root, info, list(chosen.values()))
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
    dataset.files()  # resolves every path once: a missing or outlying file is known before anything is read
    return dataset


def choose_cameras(
    features: Mapping[str, Any], robot: RobotSpec, cameras: Mapping[str, str] | None, *, where: str
) -> dict[str, str]:
    """{the robot's camera: feature key}. Without a mapping: features named like the cameras, else by role: those whose
    names speak of a wrist or hand, and the others, each in alphabetical order. Depth maps are left out. VlawError where
    that is not clear."""
    videos = sorted(
        key
        for key, feature in features.items()
        if feature.get("dtype") == "video" and not (feature.get("info") or {}).get("is_depth_map")
    )
    listed, wanted = ", ".join(videos) or "none", robot.camera_names
    if cameras is not None:
        if set(cameras) != set(wanted):
            raise VlawError(
                f"the camera mapping names {sorted(cameras)}",
                where=where,
                remedy=f"Map each of {', '.join(wanted)}; one feature may serve for two of them.",
            )
        missing = sorted(set(cameras.values()) - set(videos))
        if missing:
            raise VlawError(
                f"the dataset has no video of camera {missing[0]!r}",
                where=where,
                remedy=f"Choose from its cameras: {listed}.",
            )
        return {name: cameras[name] for name in wanted}
    named = {name: [key for key in videos if key.rsplit(".", 1)[-1] in (name, f"{name}_left")] for name in wanted}
    if all(len(keys) == 1 for keys in named.values()):
        return {name: keys[0] for name, keys in named.items()}
    at_wrist = [key for key in videos if any(word in key.rsplit(".", 1)[-1].lower() for word in WRIST_WORDS)]
    found = {WRIST: at_wrist, EXTERIOR: [key for key in videos if key not in at_wrist]}
    of_role = {role: [camera.name for camera in robot.cameras if camera.role == role] for role in found}
    if any(len(found[role]) != len(of_role[role]) for role in found):
        raise VlawError(
            f"robot {robot.name!r} has {len(of_role[EXTERIOR])} exterior cameras and {len(of_role[WRIST])} at the "
            f"wrist; the dataset's videos are: {listed}",
            where=where,
            remedy=f"Say which is which with a camera mapping ({', '.join(wanted)}); one feature may serve for two of "
            "them.",
        )
    key_of = {name: key for role in found for name, key in zip(of_role[role], found[role], strict=True)}
    return {name: key_of[name] for name in wanted}


def inside(root: Path, relative: str, *, what: str) -> Path:
    """`root/relative` resolved, links followed. VlawError unless it is a regular, non-empty file inside `root`."""
    where = str(root / relative) if "\0" not in relative else str(root)
    if "\0" in relative or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise VlawError(
            f"the path of the {what} is not one inside the dataset: {relative!r}",
            where=where,
            remedy="Do not import this dataset unless you know why it points there.",
        )
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise VlawError(
            f"the {what} is a link to a file outside the dataset: {path}",
            where=where,
            remedy="Copy the dataset with its links followed (cp -rL), if you trust what they point to.",
        )
    if not path.is_file():
        raise VlawError(f"the {what} is missing", where=where, remedy=BROKEN)
    if path.stat().st_size == 0:
        raise VlawError(f"the {what} is empty", where=where, remedy=BROKEN)
    return path


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file as a table. VlawError where it is damaged or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            present = set(file.schema_arrow.names)
            missing = [name for name in columns or [] if name not in present]
            if missing:
                raise VlawError(f"the file has no column {missing[0]!r}", where=str(path), remedy=BROKEN)
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise VlawError(
            f"the parquet file cannot be read: {str(error)[:200]}", where=str(path), remedy=BROKEN
        ) from error


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


def _template(text: Any, fields: set[str], name: str, where: str) -> str:
    """A path template with nothing in it but plain fields: no attribute, index, conversion or computed width."""
    wrong = VlawError(
        f"{name} is {str(text)[:120]!r}",
        where=where,
        remedy=f"A relative path with the fields {', '.join(sorted(fields))} and nothing else is expected.",
    )
    if not isinstance(text, str):
        raise wrong
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise wrong from error
    for _, field, spec, conversion in parts:
        if field is None:
            continue
        plain = field in fields and conversion is None
        if not plain or not (spec == "" if field == "video_key" else NUMBER.fullmatch(spec or "")):
            raise wrong
    if Path(text).is_absolute() or ".." in Path(text).parts or "\0" in text:
        raise wrong
    return text


def _index_files(root: Path) -> list[Path]:
    return sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))


def _spans(root: Path, info: dict[str, Any], keys: list[str]) -> tuple[Span, ...]:
    """The episode index, checked: numbered from 0, tiling the dataset's rows, adding up to what info.json says."""
    places = [
        f"videos/{key}/{name}"
        for key in keys
        for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    ]
    columns = [
        "episode_index",
        "length",
        "dataset_from_index",
        "dataset_to_index",
        "data/chunk_index",
        "data/file_index",
        "tasks",
        *dict.fromkeys(places),
    ]
    rows: list[dict[str, Any]] = []
    for path in _index_files(root):
        rows += read_parquet(inside(root, str(path.relative_to(root)), what="episode index"), columns).to_pylist()
    where = str(root / "meta/episodes")
    if not rows:
        raise VlawError("the dataset has zero episodes", where=where, remedy="Record some, or give another dataset.")
    rows.sort(key=lambda row: row["episode_index"] if isinstance(row["episode_index"], int) else -1)
    if len(rows) != info["total_episodes"]:
        raise VlawError(
            f"info.json counts {info['total_episodes']} episodes, the episode index has {len(rows)}",
            where=where,
            remedy=BROKEN,
        )
    spans, begin = [], 0
    for expected, row in enumerate(rows):
        empty = [name for name in columns if row[name] is None]
        if empty:
            raise VlawError(f"episode {expected}: {empty[0]} is missing", where=where, remedy=BROKEN)
        length, first, last = row["length"], row["dataset_from_index"], row["dataset_to_index"]
        videos = {
            key: tuple(
                row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            )
            for key in keys
        }
        if not _plausible(row, videos):
            raise VlawError(
                f"episode {expected}: a number, file or time in the index is not one", where=where, remedy=BROKEN
            )
        if row["episode_index"] != expected:
            raise VlawError(
                f"episode {expected} is missing or there twice (found {row['episode_index']})",
                where=where,
                remedy=BROKEN,
            )
        if first != begin or last != begin + length or length < 1:
            raise VlawError(
                f"episode {expected} claims rows {first} to {last} with length {length}; rows from {begin} on "
                "were expected: episodes must follow each other without gap or overlap",
                where=where,
                remedy=BROKEN,
            )
        spans.append(
            Span(
                expected,
                length,
                begin,
                tuple(str(task) for task in row["tasks"]),
                (row["data/chunk_index"], row["data/file_index"]),
                videos,
            )
        )
        begin = last
    if begin != info["total_frames"]:
        raise VlawError(
            f"info.json counts {info['total_frames']} frames, the episodes have {begin}", where=where, remedy=BROKEN
        )
    return tuple(spans)


def _plausible(row: dict[str, Any], videos: Mapping[str, tuple]) -> bool:
    """True if counts and file numbers are integers from 0 and times finite from 0: what comes after computes with
    them."""
    names = ("episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index")
    counts = [row[name] for name in names] + [value for place in videos.values() for value in place[:2]]
    times = [value for place in videos.values() for value in place[2:]]
    return (
        all(isinstance(value, int) and value >= 0 for value in counts)
        and all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in times)
        and isinstance(row["tasks"], list)
    )


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
