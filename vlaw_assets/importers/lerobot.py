"""A LeRobot dataset v3.0 (parquet + mp4): rows, labels and resampling to the robot's rate.

Metadata and paths are read by lerobot_format.py, videos by videos.py; base.py commits what is read.

Conventions: of a recording at k times the robot's rate every k-th frame and state is kept; the action of a control step
is the last target commanded within it, which is right for absolute targets (LeRobot's and DROID's default), not for
velocities. The action of the last kept frame leads nowhere and is dropped. Success is `next.success` of the episode's
last row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers import lerobot_format, videos
from vlaw_assets.importers.base import UNNAMED_TASK, Found, Read, Recordings, robot_of
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.files import BROKEN, read_parquet
from vlaw_assets.importers.lerobot_format import Dataset
from vlaw_assets.importers.lerobot_index import Span
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

SUCCESS_KEYS = ("next.success", "is_episode_successful", "annotation.success", "annotation.human.success", "success")
"""Where recordings keep the success label, in order of preference; booleans or 0 and 1."""


def open_recordings(path: Path, options: Options) -> Recordings:
    """The dataset in a folder. Its episodes have images (T+1, V, height, width, 3) uint8, states (T+1, D) and actions
    (T, A) float32, at the robot's rate.

    Raises VlawError, with the file and a remedy, for anything that does not agree with anything else.
    """
    if options.split:
        raise VlawError(
            f"split {options.split!r} of a LeRobot dataset",
            where=str(path),
            remedy="Import it whole: leave --split out.",
        )
    dataset = lerobot_format.open_dataset(path, partial(robot_of, options), options.cameras)
    return Recordings(
        "lerobot v3",
        dataset.root,
        robot=dataset.robot,
        files=dataset.files(),
        index=[Found(span.index, str(span.index), span.length, span.tasks) for span in dataset.spans],
        read=partial(_chosen, dataset, options),
        settings={"cameras": dict(dataset.cameras)},
        facts={"recorded_fps": dataset.fps, "robot_type": dataset.robot_type},
        understood={
            "robot": dataset.robot.name,
            "rate": f"{dataset.fps:g} Hz",
            **{f"camera {name}": key for name, key in dataset.cameras.items()},
        },
    )


def _chosen(dataset: Dataset, options: Options, numbers: Sequence[int]) -> Iterator[Read]:
    """The whole dataset is decoded before the first one comes: episodes share video files."""
    episodes = _read(dataset, options)
    yield from (Read(number, episodes[number]) for number in numbers)


def _read(dataset: Dataset, options: Options) -> list[Episode]:
    stride, size, cameras = _stride(dataset), options.size_for(dataset.robot), dataset.robot.camera_names
    rows = _rows(dataset)
    for span in dataset.spans:
        if span.length <= stride:
            raise VlawError(
                f"episode {span.index} has {span.length} frames at {dataset.fps:g} Hz: less than one control step",
                where=str(dataset.root),
                remedy="Remove it from the dataset (lerobot-edit-dataset).",
            )
    images = [
        np.empty((len(range(0, span.length, stride)), len(cameras), *size, 3), np.uint8) for span in dataset.spans
    ]
    for key in dict.fromkeys(dataset.cameras.values()):
        views = [view for view, name in enumerate(cameras) if dataset.cameras[name] == key]
        for span, frames in _frames(dataset, key, stride, size):
            for view in views:
                images[span.index][:, view] = frames
    return [
        _episode(dataset, span, row, pictures, stride, task=options.task)
        for span, row, pictures in zip(dataset.spans, rows, images, strict=True)
    ]


def _stride(dataset: Dataset) -> int:
    rate = dataset.robot.control_hz
    stride = round(dataset.fps / rate)
    if stride < 1 or abs(stride * rate - dataset.fps) > 1e-6:
        raise VlawError(
            f"recorded at {dataset.fps:g} Hz, which is no multiple of {rate:g} Hz, the rate of robot "
            f"{dataset.robot.name!r}",
            where=str(dataset.root / "meta/info.json"),
            remedy=f"Resample the dataset to a multiple of {rate:g} Hz, e.g. {3 * rate:g} Hz, before the import, or "
            "name the robot that it was recorded on.",
        )
    return stride


def _episode(
    dataset: Dataset, span: Span, row: dict[str, Any], images: np.ndarray, stride: int, *, task: str
) -> Episode:
    kept = np.arange(0, span.length, stride)
    instruction = row["task"] or next((text for text in span.tasks if text), UNNAMED_TASK)
    return Episode(
        task=task or instruction,
        instruction=instruction,
        seed=span.index,
        images=images,
        states=row["states"][kept],
        # The step from one kept frame to the next was driven by the targets in between; the last one is where it led.
        actions=row["actions"][kept[1:] - 1],
        success=row["success"],
        event="success" if row["success"] else "",
        cameras=dataset.robot.camera_names,
        control_hz=dataset.robot.control_hz,
        extra={"recorded_episode": span.index, "recorded_fps": dataset.fps},
    )


def _rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Per episode: states, actions (length, dim) float32, task text, success; checked against the episode index."""
    label = next((key for key in SUCCESS_KEYS if key in dataset.features), None)
    columns = [
        "observation.state",
        "action",
        "episode_index",
        "frame_index",
        "index",
        "task_index",
        *([label] if label else []),
    ]
    out: list[dict[str, Any]] = []
    for place in dict.fromkeys(span.data for span in dataset.spans):
        path = dataset.data_file(place)
        spans = [span for span in dataset.spans if span.data == place]
        table = read_parquet(path, columns)
        numbers = {
            name: _integers(table[name], name, path) for name in ("episode_index", "frame_index", "index", "task_index")
        }
        states, actions = (_matrix(table[name], name, dataset, path) for name in ("observation.state", "action"))
        expected = sum(span.length for span in spans)
        if table.num_rows != expected:
            raise VlawError(
                f"the file has {table.num_rows} rows, its episodes have {expected}", where=str(path), remedy=BROKEN
            )
        for span in spans:
            mine = np.flatnonzero(numbers["episode_index"] == span.index)
            if len(mine) != span.length:
                raise VlawError(
                    f"episode {span.index} has {len(mine)} rows, its length is {span.length}",
                    where=str(path),
                    remedy=BROKEN,
                )
            steps = np.arange(span.length)
            if (numbers["frame_index"][mine] != steps).any() or (numbers["index"][mine] != span.begin + steps).any():
                raise VlawError(
                    f"the rows of episode {span.index} are not numbered in order", where=str(path), remedy=BROKEN
                )
            for name, values in (("observation.state", states), ("action", actions)):
                bad = np.argwhere(~np.isfinite(values[mine]))
                if len(bad):
                    raise VlawError(
                        f"{name} of episode {span.index} is NaN or infinite at frame {bad[0][0]}, component "
                        f"{bad[0][1]}",
                        where=str(path),
                        remedy="Remove the episode (lerobot-edit-dataset) or mend the recording.",
                    )
            dataset.robot.check_numbers(
                states[mine],
                actions[mine],
                where=f"{path}, episode {span.index}",
                state_names=dataset.names("observation.state"),
                action_names=dataset.names("action"),
            )
            text = dataset.tasks.get(int(numbers["task_index"][mine[0]]))
            if text is None:
                raise VlawError(
                    f"episode {span.index} names task {numbers['task_index'][mine[0]]}, which the task table lacks",
                    where=str(path),
                    remedy=BROKEN,
                )
            success = None if label is None else _label(table[label][int(mine[-1])].as_py(), span, path)
            out.append(
                {
                    "index": span.index,
                    "states": states[mine],
                    "actions": actions[mine],
                    "task": text.strip(),
                    "success": success,
                }
            )
    return sorted(out, key=lambda row: row["index"])


def _frames(dataset: Dataset, key: str, stride: int, image_size: tuple[int, int]) -> list[tuple[Span, np.ndarray]]:
    """The kept frames of one camera, per episode. Episodes must follow each other in their video file."""
    out: list[tuple[Span, np.ndarray]] = []
    for place in dict.fromkeys(span.videos[key][:2] for span in dataset.spans):
        path = dataset.video_file(key, place)
        spans = sorted(
            (span for span in dataset.spans if span.videos[key][:2] == place), key=lambda span: span.videos[key][2]
        )
        begins, begin = [], 0
        for span in spans:
            first, last = span.videos[key][2:]
            # Half a frame of tolerance: the index holds seconds as floats.
            if abs(first * dataset.fps - begin) > 0.5 or abs(last * dataset.fps - begin - span.length) > 0.5:
                raise VlawError(
                    f"episode {span.index} claims {first:g} s to {last:g} s of the video; frames {begin} to "
                    f"{begin + span.length} at {dataset.fps:g} Hz were expected",
                    where=str(path),
                    remedy=BROKEN,
                )
            begins.append(begin)
            begin += span.length
        kept = [np.arange(first, first + span.length, stride) for first, span in zip(begins, spans, strict=True)]
        frames = videos.read_frames(
            path, begin, keep=np.concatenate(kept), shape=dataset.frame_size(key), image_size=image_size
        )
        ends = np.cumsum([len(numbers) for numbers in kept])[:-1]
        out += zip(spans, np.split(frames, ends), strict=True)
    return out


def _integers(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    import pyarrow as pa

    if column.null_count or not pa.types.is_integer(column.type):
        raise VlawError(f"{name} is missing in a row, or no whole number", where=str(path), remedy=BROKEN)
    return column.to_numpy().astype(np.int64)


def _matrix(column: pa.ChunkedArray, name: str, dataset: Dataset, path: Path) -> np.ndarray:
    """A vector feature as (rows, dim) float32. VlawError for a missing row or a length other than the declared one."""
    import pyarrow as pa

    shape = dataset.features[name].get("shape")
    dim = shape[0] if isinstance(shape, Sequence) and len(shape) == 1 else None
    values = column.combine_chunks()
    nested = hasattr(values.type, "value_type")
    flat = values.flatten() if nested else values
    number = pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)
    if dim is None or not number or column.null_count or flat.null_count or len(flat) != dim * len(values):
        raise VlawError(
            f"{name} is declared as {shape}, but a row is missing, of another length or no numbers",
            where=str(path),
            remedy=BROKEN,
        )
    return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), dim)


def _label(value: Any, span: Span, path: Path) -> bool | None:
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if value not in (0, 1):
        raise VlawError(
            f"the success label of episode {span.index} is {value!r}",
            where=str(path),
            remedy="Labels are true or false, 1 or 0.",
        )
    return bool(value)
