"""Putting episodes into the files of a dataset: rows, videos, the index of episodes, tasks and statistics."""

from __future__ import annotations

import json
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlaw_assets.exports.lerobot import layout
from vlaw_assets.exports.lerobot import stats as statistics
from vlaw_assets.exports.lerobot.files import ParquetFiles, VideoFiles
from vlaw_assets.exports.lerobot.layout import ACTION, STATE, Layout, Place

if TYPE_CHECKING:
    from vlaw_assets.exports.lerobot.episodes import Facts
    from vlaw_assets.reports.episodes.clips import Pictures

AT_ONCE = 256
"""Rows of the index of episodes that are written together."""
NUMBERS = ("float32", "int64", "bool")


class Writing:
    """The files below `root`, episode by episode."""

    def __init__(self, root: Path, common: Layout, *, data_bytes: int, video_bytes: int):
        self._root, self._layout = root, common
        self._data = ParquetFiles(root, common.files.data, common.schema(), data_bytes)
        self._index = ParquetFiles(root, layout.EPISODES, _index_schema(common), data_bytes)
        self._videos = {key: VideoFiles(root, key, common, video_bytes) for key in common.video_keys}
        self._all: list[ParquetFiles | VideoFiles] = [self._data, self._index, *self._videos.values()]
        self._whole = {name: statistics.Whole() for name in _measured(common)}
        self._waiting: list[dict[str, Any]] = []
        self._episodes = self._frames = 0
        self.tasks: dict[str, int] = {}
        """Instruction -> its number."""

    def add(self, facts: Facts, pictures: Pictures, pool: Executor) -> None:
        """One more episode, with all of its frames. Cameras are encoded side by side by the threads of `pool`."""
        assert pictures.images is not None
        columns = self._columns(facts, pictures)
        place = self._data.place_for(facts.frames)
        self._data.add(_table(columns, self._layout))
        row = {
            "episode_index": self._episodes,
            "tasks": [pictures.item.episode.instruction],
            "length": facts.frames,
            "data/chunk_index": place.chunk,
            "data/file_index": place.file,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + facts.frames,
        }
        found: dict[str, Any] = {}
        views = [np.ascontiguousarray(pictures.images[:, view]) for view in range(len(self._layout.cameras))]
        measured = pool.map(_encoded, self._videos.values(), views)
        for key, ((where, begin, end), levels, count) in zip(self._videos, measured, strict=True):
            values = (where.chunk, where.file, begin, end)
            names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            row |= {f"videos/{key}/{name}": value for name, value in zip(names, values, strict=True)}
            found[key] = statistics.of_levels(levels, count)
            self._whole[key].add_levels(levels, count)
        for name, values in columns.items():
            if name in self._whole:
                self._whole[name].add(values)
                if name not in self._layout.may_be_unknown:
                    found[name] = statistics.of_rows(values)
        for name, of in found.items():
            row |= {f"stats/{name}/{key}": value for key, value in statistics.plain(of).items()}
        self._waiting.append(row)
        self._episodes += 1
        self._frames += facts.frames
        if len(self._waiting) == AT_ONCE:
            self._flush()

    def _columns(self, facts: Facts, pictures: Pictures) -> dict[str, Any]:
        """Column -> an array over the rows, or the one text of all of them."""
        item, episode, count = pictures.item, pictures.item.episode, facts.frames
        step, last = np.arange(count), np.arange(count) == count - 1
        known = facts.success is not None
        reward = np.where(last, float(bool(facts.success)), 0.0) if known else np.full(count, np.nan)
        success = (last & bool(facts.success)) if self._layout.judged else reward
        task = self.tasks.setdefault(episode.instruction, len(self.tasks))
        return {
            STATE: episode.states,
            # Where the last action led there is none: it is held.
            ACTION: np.concatenate([episode.actions, episode.actions[-1:]]),
            "next.success": success,
            "next.reward": reward,
            "next.done": last,
            "origin": facts.origin,
            "outcome": facts.outcome,
            "task_category": episode.task,
            "score": np.full(count, np.nan if facts.score is None else facts.score),
            "artifact_id": facts.key[0],
            "episode_id": facts.key[1],
            "start_episode_id": item.row["start_episode_id"] or "",
            "weight": np.full(count, np.nan if facts.weight is None else facts.weight),
            "positive": np.full(count, facts.positive),
            "timestamp": (step / self._layout.rate).astype(np.float32),
            "frame_index": step,
            "episode_index": np.full(count, self._episodes),
            "index": self._frames + step,
            "task_index": np.full(count, task),
        }

    def _flush(self) -> None:
        place = self._index.place_for(len(self._waiting))
        own = {"meta/episodes/chunk_index": place.chunk, "meta/episodes/file_index": place.file}
        schema = _index_schema(self._layout)
        self._index.add(pa.Table.from_pylist([row | own for row in self._waiting], schema=schema))
        self._waiting = []

    def finish(self) -> None:
        """Ends every file, and writes the tasks."""
        if self._waiting:
            self._flush()
        for files in self._all:
            files.close()
        pq.write_table(_tasks(list(self.tasks)), self._root / layout.TASKS)

    def abandon(self) -> None:
        """Closes what `finish` has not, after an error: nothing of it will be read."""
        for files in self._all:
            with suppress(Exception):  # the error that led here is the one to tell
                files.close()

    def stats(self) -> dict[str, Any]:
        """Of the whole dataset, as stats.json has them."""
        found = {name: whole.found() for name, whole in self._whole.items()}
        return {name: statistics.plain(of) for name, of in found.items() if of is not None}


def _encoded(videos: VideoFiles, frames: np.ndarray) -> tuple[tuple[Place, float, float], np.ndarray, int]:
    return (videos.add(frames), *statistics.levels_of(frames))


def _table(columns: dict[str, Any], common: Layout) -> pa.Table:
    schema, arrays = common.schema(), []
    count = len(columns["frame_index"])
    for field in schema:
        value = columns[field.name]
        if isinstance(value, str):
            arrays.append(pa.array([value] * count, field.type))
        elif pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(value, np.float32).ravel())
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size).cast(field.type))
        else:
            arrays.append(pa.array(np.asarray(value).reshape(count)).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _measured(common: Layout) -> list[str]:
    """Features that have statistics: all but texts."""
    return [*common.video_keys, *(name for name, (kind, _) in common.columns().items() if kind in NUMBERS)]


def _index_schema(common: Layout) -> pa.Schema:
    whole, seconds = pa.int64(), pa.float64()
    places = {"chunk_index": whole, "file_index": whole, "from_timestamp": seconds, "to_timestamp": seconds}
    fields = [
        pa.field("episode_index", whole),
        pa.field("tasks", _listed(pa.string())),
        *(
            pa.field(name, whole)
            for name in ("length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")
        ),
        *(pa.field(f"videos/{key}/{name}", kind) for key in common.video_keys for name, kind in places.items()),
    ]
    for name in _measured(common):
        if name in common.may_be_unknown:  # LeRobot's tools take no statistics without numbers
            continue
        numbers = _listed(seconds)
        kind = _listed(_listed(numbers)) if name in common.video_keys else numbers
        fields += [
            pa.field(f"stats/{name}/{key}", _listed(whole) if key == "count" else kind) for key in statistics.NAMES
        ]
    return pa.schema(
        [*fields, pa.field("meta/episodes/chunk_index", whole), pa.field("meta/episodes/file_index", whole)]
    )


def _listed(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind))


def _tasks(texts: list[str]) -> pa.Table:
    """The table of tasks as pandas keeps it, with the texts as its index."""
    column = {"field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    index = {"field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [{"name": "task_index", **column}, {"name": "task", **index}],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    table = pa.table({"task_index": pa.array(range(len(texts)), pa.int64()), "task": pa.array(texts, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
