"""The episode index of a LeRobot dataset v3.0: which rows and which stretch of which video file an episode is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlaw_assets.importers.files import BROKEN, inside, read_parquet
from vlaw_models.errors import VlawError


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


def index_files(root: Path) -> list[Path]:
    return sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))


def read_spans(root: Path, info: dict[str, Any], keys: list[str]) -> tuple[Span, ...]:
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
    for path in index_files(root):
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
