"""Import of a LeRobot dataset v3.0 (parquet + mp4): recorded episodes become an artifact like any other.

    read_lerobot(path)                     the episodes as vlaw knows them, everything checked
    import_lerobot(lake, path, name=...)   the same, committed as recorded_episodes of that name

Here: rows, labels, resampling to 5 Hz, the commit. Not here: metadata and paths (lerobot_format.py), decoding
(videos.py). Everything is read and checked before the commit begins, so a bad dataset writes nothing.

Conventions: of a recording at k x 5 Hz every k-th frame and state is kept; the action of a control step is the last
target commanded within it, which is right for absolute targets (LeRobot's and DROID's default), not for velocities.
The action of the last kept frame leads nowhere and is dropped. Success is `next.success` of the episode's last row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers import lerobot_format, videos
from vlaw_assets.importers.lerobot_format import BROKEN, Dataset, Span
from vlaw_models.episodes import CAMERAS, CONTROL_HZ, Episode
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

    from vlaw_assets.lake import ArtifactRef, Lake

ASSET = KIND = "recorded_episodes"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SUCCESS_KEYS = ("next.success", "is_episode_successful", "annotation.success", "annotation.human.success", "success")
"""Where recordings keep the success label, in order of preference; booleans or 0 and 1."""
UNNAMED_TASK = "unspecified"
"""Instruction of an episode that was recorded without one (some of DROID's were)."""
IMAGE_SIZES = range(16, 1025)


def import_lerobot(
    lake: Lake,
    path: Path | str,
    *,
    name: str,
    run_id: str,
    image_size: int = 64,
    cameras: Mapping[str, str] | None = None,
    task: str | None = None,
    require_success: bool = False,
    force: bool = False,
) -> ArtifactRef:
    """Commits the dataset as `recorded_episodes` of partition `name|00` and returns its ledger row.

    The identity holds the digest of every file read: the same dataset again is recognised, a changed one becomes the
    partition's new version. Arguments otherwise as in `read_lerobot`. VlawError before anything is written.
    """
    from vlaw_assets.lake import Identity, canonical_json
    from vlaw_assets.pipeline.code_identity import code_digest, made_with

    if not NAME.fullmatch(name):
        raise VlawError(
            f"{name!r} cannot name a dataset", where="import", remedy="Use letters, digits, '_' and '-', at most 63."
        )
    dataset = lerobot_format.open_dataset(path, cameras)
    recipe = {
        "format": "lerobot v3",
        "source_sha256": source_digest(dataset),
        "image_size": image_size,
        "cameras": dict(dataset.cameras),
        "task": task,
        "control_hz": CONTROL_HZ,
    }
    code = code_digest(__name__)
    identity = Identity(kind=KIND, code=code, recipe=canonical_json(recipe), parents=())
    # Read before the commit block as well as checked: a lock held while videos decode would help nobody.
    known = lake.ledger.find(identity) is not None and not force
    episodes = [] if known else _read(dataset, image_size=image_size, task=task, require_success=require_success)
    with lake.commit(asset=ASSET, partition=partition_of(name), identity=identity, run_id=run_id, force=force) as draft:
        if draft.reused is None:
            if known:  # gone between the look and the lock
                episodes = _read(dataset, image_size=image_size, task=task, require_success=require_success)
            draft.write_episodes(episodes, purpose="rollout", world=dataset.robot_type, label_source="recorded")
            draft.set_metrics({**_summary(name, dataset, episodes), "made_with": made_with()})
    return draft.ref


def _summary(name: str, dataset: Dataset, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Counts and the verdicts of the checks that every asset's episodes pass. VlawError where one fails."""
    from vlaw_assets.pipeline.checks import all_finite, episodes_fit_schema

    parts = {
        judged: [episode for episode in episodes if (episode.success is not None) is judged] for judged in (True, False)
    }
    tasks = sorted({episode.task for episode in episodes})
    findings = [
        all_finite(episodes),
        *(episodes_fit_schema(part, tasks=tasks, judged=judged) for judged, part in parts.items() if part),
    ]
    for finding in findings:
        if not finding.passed:
            raise VlawError(
                f"check '{finding.name}' failed: {finding.text}", where=str(dataset.root), remedy="Mend the recording."
            )
    return {
        "dataset": name,
        "episodes": len(episodes),
        "successes": sum(bool(episode.success) for episode in episodes),
        "unlabelled": len(parts[False]),
        "frames": sum(len(episode.images) for episode in episodes),
        "recorded_fps": dataset.fps,
        "checks": {finding.name: {"passed": True, "text": finding.text, "blocking": True} for finding in findings},
    }


def partition_of(name: str) -> str:
    """The ledger's partition of an imported dataset: the lake's partitions are pairs, an import is iteration 0."""
    return f"{name}|00"


def read_lerobot(
    path: Path | str,
    image_size: int = 64,
    *,
    cameras: Mapping[str, str] | None = None,
    task: str | None = None,
    require_success: bool = False,
) -> list[Episode]:
    """All episodes of a dataset at 5 Hz: images (T+1, 3, size, size, 3) uint8, states (T+1, D), actions (T, A) float32.

    Args:
        cameras: {exterior_1, exterior_2, wrist: feature key}; by default found by name (see `choose_cameras`).
        task: the task category of all episodes; default: the recorded instruction ('unspecified' where that is empty).
        require_success: an episode without a success label is an error; by default its success is None.

    Raises VlawError, with the file and a remedy, for anything that does not agree with anything else.
    """
    return _read(
        lerobot_format.open_dataset(path, cameras), image_size=image_size, task=task, require_success=require_success
    )


def source_digest(dataset: Dataset) -> str:
    """sha256 over the relative paths and the bytes of every file that an import reads."""
    total = hashlib.sha256()
    for path in dataset.files():
        with path.open("rb") as file:
            total.update(
                f"{path.relative_to(dataset.root).as_posix()}\0"
                f"{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return total.hexdigest()


def _read(dataset: Dataset, *, image_size: int, task: str | None, require_success: bool) -> list[Episode]:
    if image_size not in IMAGE_SIZES:
        raise VlawError(
            f"image size {image_size}", where="import", remedy=f"Give {IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]} pixels."
        )
    stride = _stride(dataset)
    rows = _rows(dataset)
    for span in dataset.spans:
        if span.length <= stride:
            raise VlawError(
                f"episode {span.index} has {span.length} frames at {dataset.fps:g} Hz: less than one control step",
                where=str(dataset.root),
                remedy="Remove it from the dataset (lerobot-edit-dataset).",
            )
    if require_success and (missing := [index for index, row in enumerate(rows) if row["success"] is None]):
        raise VlawError(
            f"episode {missing[0]} has no success label ({len(missing)} of {len(rows)} have none)",
            where=str(dataset.root),
            remedy="Label the episodes, or import them unlabelled.",
        )
    images = [
        np.empty((len(range(0, span.length, stride)), len(CAMERAS), image_size, image_size, 3), np.uint8)
        for span in dataset.spans
    ]
    for key in dict.fromkeys(dataset.cameras.values()):
        views = [view for view, name in enumerate(CAMERAS) if dataset.cameras[name] == key]
        for span, frames in _frames(dataset, key, stride, image_size):
            for view in views:
                images[span.index][:, view] = frames
    return [
        _episode(span, row, pictures, stride, task=task, fps=dataset.fps)
        for span, row, pictures in zip(dataset.spans, rows, images, strict=True)
    ]


def _stride(dataset: Dataset) -> int:
    stride = round(dataset.fps / CONTROL_HZ)
    if stride < 1 or abs(stride * CONTROL_HZ - dataset.fps) > 1e-6:
        raise VlawError(
            f"recorded at {dataset.fps:g} Hz, which is no multiple of {CONTROL_HZ:g} Hz",
            where=str(dataset.root / "meta/info.json"),
            remedy=f"Resample the dataset to a multiple of {CONTROL_HZ:g} Hz, e.g. 15 or 30 Hz, before the import.",
        )
    return stride


def _episode(
    span: Span, row: dict[str, Any], images: np.ndarray, stride: int, *, task: str | None, fps: float
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
        extra={"recorded_episode": span.index, "recorded_fps": fps},
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
        table = lerobot_format.read_parquet(path, columns)
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


def _frames(dataset: Dataset, key: str, stride: int, image_size: int) -> list[tuple[Span, np.ndarray]]:
    """The kept frames of one camera, per episode. Episodes must follow each other in their video file."""
    shape = dataset.features[key].get("shape")
    if not isinstance(shape, Sequence) or len(shape) != 3 or not all(isinstance(side, int) for side in shape):
        raise VlawError(f"the shape of {key} is {shape!r}", where=str(dataset.root / "meta/info.json"), remedy=BROKEN)
    names = dataset.features[key].get("names") or ["height", "width", "channels"]
    height, width = (
        shape[names.index(side)] if side in names else shape[place] for place, side in enumerate(("height", "width"))
    )
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
            path, begin, keep=np.concatenate(kept), shape=(height, width), image_size=image_size
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
