"""Small files that say they are large: refused by what they say, before anything is decoded."""

from __future__ import annotations

import json
import resource
import struct
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_dataset import CAMERAS, DATA, EPISODE_TABLE, VIDEO
from recorded_layouts import edit_info, edit_rows, picture, set_column, to_pictures, to_v21

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.footers import read_footer
from vlaw_assets.importers.lerobot import open_recordings
from vlaw_models.errors import VlawError

MOST_SECONDS, MOST_MEGABYTES = 5.0, 256.0
MANY = 1_000_001


def constant(value: object, kind: pa.DataType, count: int = MANY) -> pa.Array:
    return pa.array([value], kind).take(pa.array(np.zeros(count, np.int32)))


def rows_of(root: Path, count: int, **columns: pa.Array) -> None:
    """Rows that are all alike: a hundred thousand of them in a few kilobytes."""
    first = pq.read_table(root / DATA).slice(0, 1).combine_chunks()
    table = first.take(pa.array(np.zeros(count, np.int32)))
    for name, column in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, column)
    pq.write_table(table, root / DATA, compression="zstd")


def consistent(root: Path) -> None:
    """One episode of millions of rows, and everything agrees."""
    rows_of(root, MANY)

    def one(rows: list) -> None:
        del rows[1:]
        rows[0].update(length=MANY, dataset_to_index=MANY)
        rows[0].update({f"videos/{key}/to_timestamp": MANY / 15 for key in CAMERAS})

    edit_rows(root, EPISODE_TABLE, one)
    edit_info(root, total_episodes=1, total_frames=MANY)


def long_vectors(root: Path) -> None:
    vectors = pa.ListArray.from_arrays(pa.array([0, *[MANY] * 26], pa.int32()), constant(1.0, pa.float32()))
    set_column(root, DATA, "action", vectors)


def long_text(root: Path) -> None:
    """A text of megabytes, many times: a dictionary with one word."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(26, np.int32)), pa.array(["x" * (32 * 2**20)]))
    table = pq.read_table(root / DATA).append_column("language_instruction", texts)
    pq.write_table(table, root / DATA, compression="zstd")


def lying_footer(root: Path) -> None:
    """Pages of 24 MB of nothing in a kilobyte, of which the footer says that they are small."""
    numbers = pa.array(np.zeros(3_000_000, np.float64))
    vectors = pa.ListArray.from_arrays(pa.array([0, *[3_000_000] * 26], pa.int32()), numbers)
    set_column(root, DATA, "action", vectors)
    pq.write_table(pq.read_table(root / DATA), root / DATA, compression="zstd", use_dictionary=False)
    chunk = next(c for group in read_footer((root / DATA).open("rb"))[1] for c in group.chunks if "action" in c.path)
    data = bytearray((root / DATA).read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for true, said in ((chunk.whole, 5000), (chunk.values, 78)):
        found = varint(true)
        place = data.index(found, footer)
        data[place : place + len(found)] = varint(said, len(found))
    (root / DATA).write_bytes(data)


def varint(value: int, length: int = 0) -> bytes:
    """A signed whole number of Thrift's compact protocol, in so many bytes or as few as possible."""
    value, parts = 2 * value, []
    while value or not parts or len(parts) < length:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts[:-1], parts[-1] & 127])


def index_of(root: Path) -> None:
    first = pq.read_table(root / EPISODE_TABLE).slice(0, 1).combine_chunks()
    pq.write_table(first.take(pa.array(np.zeros(300_000, np.int32))), root / EPISODE_TABLE, compression="zstd")


def tasks_of(root: Path) -> None:
    table = pa.table(
        {"task_index": constant(0, pa.int64(), MANY + 1), "task": constant("lift the cup", pa.string(), MANY + 1)}
    )
    pq.write_table(table, root / "meta/tasks.parquet")


def columns_of(root: Path) -> None:
    table = pq.read_table(root / DATA)
    many = dict.fromkeys((f"c{number}" for number in range(10_500)), pa.nulls(len(table), pa.int8()))
    columns = dict(zip(table.column_names, table.columns, strict=True)) | many
    pq.write_table(pa.table(columns), root / DATA, compression="none", use_dictionary=False, write_statistics=False)


def deep(root: Path) -> None:
    (root / "meta/info.json").write_text('{"features":' + "[" * 200_000)


def large(root: Path) -> None:
    with (root / "meta/info.json").open("wb") as file:
        file.truncate(2**31)


def long_line(root: Path) -> None:
    to_v21(root)
    with (root / "meta/episodes.jsonl").open("ab") as file:
        file.truncate(2**31)


def many_features(root: Path) -> None:
    edit_info(root, features={str(number): {"dtype": "float32"} for number in range(5000)})


def footer(root: Path) -> None:
    """A footer that says that it is larger than all memory."""
    data = (root / DATA).read_bytes()
    (root / DATA).write_bytes(data[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1")


def large_picture(root: Path) -> None:
    """A PNG of 2.5 billion pixels in a few kilobytes."""
    to_pictures(root)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )
    all_pictures(root, data)


def words_in_picture(root: Path) -> None:
    """A PNG with a text of 128 megabytes."""
    to_pictures(root)
    text = b"k\0\0" + zlib.compress(b"\0" * 2**27)
    data = picture(9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    all_pictures(root, data[:33] + chunk + data[33:])


def all_pictures(root: Path, data: bytes) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    set_column(root, DATA, CAMERAS[0], pa.array([{"bytes": data, "path": None}] * 26, kind))


def large_frames(root: Path) -> None:
    write_frames(root, size=(4112, 4200), rate=15, count=1)


def many_frames(root: Path) -> None:
    write_frames(root, size=(24, 40), rate=15 * 70, count=26 * 70)


def write_frames(root: Path, *, size: tuple[int, int], rate: int, count: int) -> None:
    with av.open(str(root / VIDEO.format(CAMERAS[0])), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.zeros((*size, 3), np.uint8), format="rgb24")
        for _ in range(count):
            grey.pts = None
            container.mux(stream.encode(grey))
        container.mux(stream.encode())


BOMBS = {
    "rows": (lambda root: rows_of(root, MANY), "at most 1052 can belong"),
    "rows that agree with everything": (consistent, "longer than any episode"),
    "vectors": (long_vectors, "values in 26 rows"),
    "text": (long_text, "bytes become"),
    "footer that lies": (lying_footer, "are larger than the 5000 bytes"),
    "index": (index_of, "at most 1000 can belong"),
    "task table": (tasks_of, "at most 1000000 can belong"),
    "columns": (columns_of, "columns"),
    "deep JSON": (deep, "not readable JSON"),
    "large JSON": (large, "more than"),
    "long line": (long_line, "more than"),
    "features": (many_features, "no table of features"),
    "footer": (footer, "no footer"),
    "picture": (large_picture, "exceeds limit"),
    "words in a picture": (words_in_picture, "cannot be decoded"),
    "frames of a size": (large_frames, "no size, or more than 4096"),
    "frames in number": (many_frames, "more than 64 frames for a row"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_it_is_refused_at_once(dataset, bomb):
    lay, words = BOMBS[bomb]
    lay(dataset)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        recordings = open_recordings(dataset, Options(image_size=(16, 16)))
        said = [read.excluded.value for read in recordings.read(range(len(recordings.index))) if read.excluded]
    except VlawError as error:
        said = [error.what]
    assert time.process_time() - begun < MOST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MEGABYTES
    assert said
    assert words in said[0]
    assert len(json.dumps(said[0])) < 2000
