"""LeRobot's storage format "lance": the rows in a table `frames`, the videos as they are in a table `videos`.

As the loader of lerobot-lancedb 0.3.1 reads it, which LeRobot took over: dots of column names become underscores, row N
is frame N, and of each video it is written down which frame lies where in its bytes. `meta` stays as files, and is a
table too, for folders that are read from afar.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlaw_assets.exports.lerobot import layout

if TYPE_CHECKING:
    from vlaw_assets.exports.lerobot.layout import Layout

FORMAT = "lance"
BLOB = "video_bytes"
HEADER = 16
"""Bytes that say how long a box of an MP4 file is, and of what kind."""


def into_lance(root: Path, common: Layout) -> None:
    """Turns the dataset in a folder, as Parquet and MP4, into tables. Needs the space of both for a while."""
    import lancedb

    info = root / layout.INFO
    info.write_text(json.dumps(json.loads(info.read_text()) | {"storage_format": FORMAT}, indent=4))
    database = lancedb.connect(str(root))
    files = sorted((root / "data").rglob("*.parquet"))
    schema = pa.schema([field.with_name(column_of(field.name)) for field in common.schema()])
    database.create_table("frames", pa.RecordBatchReader.from_batches(schema, _rows(files, schema)))
    videos = database.create_table("videos", schema=_videos_schema(lancedb.blob(BLOB)))
    stored = _videos_schema(pa.field(BLOB, pa.large_binary()))
    videos.add(pa.RecordBatchReader.from_batches(stored, _videos(root, stored)))
    meta = pa.schema([pa.field("path", pa.string()), pa.field("data", pa.large_binary())])
    rows = [
        {"path": path.relative_to(root / "meta").as_posix(), "data": path.read_bytes()}
        for path in sorted((root / "meta").rglob("*"))
        if path.is_file()
    ]
    database.create_table("meta", pa.Table.from_pylist(rows, schema=meta))
    for name in ("data", "videos"):
        shutil.rmtree(root / name)


def column_of(feature: str) -> str:
    return feature.replace(".", "_")


def _rows(files: list[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches():
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _videos_schema(blob: pa.Field) -> pa.Schema:
    whole = pa.int64()
    numbers = ("chunk_index", "file_index", "file_size", "moov_offset", "moov_size")
    listed = [pa.field(name, pa.list_(whole)) for name in ("kf_indices", "kf_positions")]
    return pa.schema([pa.field("video_key", pa.string()), *(pa.field(name, whole) for name in numbers), *listed, blob])


def _videos(root: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """A row per video, one in memory."""
    for path in sorted((root / "videos").rglob("*.mp4")):
        row = {
            "video_key": path.parts[-3],
            "chunk_index": int(path.parent.name.removeprefix("chunk-")),
            "file_index": int(path.stem.removeprefix("file-")),
            **byte_index(path),
            BLOB: path.read_bytes(),
        }
        yield pa.RecordBatch.from_pylist([row], schema=schema)


def byte_index(path: Path) -> dict[str, Any]:
    """Where the index of an MP4 file, and each frame that stands alone, lie in its bytes."""
    import av

    with av.open(str(path), format="mp4") as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate)
        keys = sorted(
            (round(float(packet.pts * packet.time_base) * rate), packet.pos)
            for packet in container.demux(stream)
            if packet.pts is not None and packet.is_keyframe and packet.pos is not None
        )
    offset, size = _moov(path)
    return {
        "file_size": path.stat().st_size,
        "moov_offset": offset,
        "moov_size": size,
        "kf_indices": [number for number, _ in keys],
        "kf_positions": [position for _, position in keys],
    }


def _moov(path: Path) -> tuple[int, int]:
    """(offset, size) of the box with the index of an MP4 file that was finished."""
    total, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            header = file.read(HEADER)
            size = int.from_bytes(header[:4], "big")
            size = int.from_bytes(header[8:16], "big") if size == 1 else size or total - offset
            if header[4:8] == b"moov":
                return offset, size
            if not header:
                raise ValueError(f"{path} has no index")
            offset += size
