"""The metadata of LeRobot's version 2.1, which openpi reads: lines of JSON in place of tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vlaw_assets.exports.lerobot import layout

STATS = ("min", "max", "mean", "std", "count")
NEW = ("data_files_size_in_mb", "video_files_size_in_mb")
"""Keys of info.json that version 2.1 does not have."""


def into_old(root: Path) -> None:
    """Writes the metadata of a folder, whose data and videos have the names of version 2.1 already, as that version
    has them."""
    meta = root / "meta"
    info = json.loads((root / layout.INFO).read_text())
    videos = sum(feature["dtype"] == "video" for feature in info["features"].values())
    more = {
        "total_videos": info["total_episodes"] * videos,
        "total_chunks": -(-info["total_episodes"] // layout.CHUNK),
    }
    old = {key: value for key, value in info.items() if key not in NEW} | more
    (root / layout.INFO).write_text(json.dumps(old, indent=4))
    tasks = pq.read_table(root / layout.TASKS).to_pylist()
    _lines(meta / "tasks.jsonl", ({name: row[name] for name in ("task_index", "task")} for row in tasks))
    _lines(
        meta / "episodes.jsonl",
        ({name: row[name] for name in ("episode_index", "tasks", "length")} for row in _episodes(meta)),
    )
    _lines(meta / "episodes_stats.jsonl", map(_stats, _episodes(meta)))
    shutil.rmtree(meta / "episodes")
    for name in (layout.TASKS, layout.STATS):
        (root / name).unlink()


def _episodes(meta: Path) -> Iterator[dict[str, Any]]:
    """Rows of the index, a few in memory."""
    for path in sorted((meta / "episodes").rglob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=layout.CHUNK):
            yield from batch.to_pylist()


def _stats(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for column, value in row.items():
        feature, _, name = column.removeprefix("stats/").rpartition("/")
        if column.startswith("stats/") and name in STATS and value is not None:
            found.setdefault(feature, {})[name] = value
    return {"episode_index": row["episode_index"], "stats": found}


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
