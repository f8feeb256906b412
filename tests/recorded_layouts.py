"""The small dataset of recorded_dataset.py in the other layouts: v2.1, Lance storage, pictures in rows."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from recorded_dataset import CAMERAS, DATA, EPISODE_TABLE, LENGTHS, VIDEO, brightness, write_video

SIZE = (24, 40)


def edit_info(root: Path, **changes: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_feature(root: Path, key: str, value: object) -> None:
    """Another declaration of a feature; None takes it out."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    others = {name: feature for name, feature in features.items() if name != key}
    edit_info(root, features=others | ({key: value} if value is not None else {}))


def edit_rows(root: Path, name: str, change) -> None:
    rows = pq.read_table(root / name).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), root / name)


def set_column(root: Path, name: str, column: str, values: object) -> None:
    """A column of a table, replaced or added; None takes it out."""
    table = pq.read_table(root / name)
    place = table.column_names.index(column) if column in table.column_names else -1
    if place >= 0:
        table = table.remove_column(place)
    if values is not None:
        table = table.append_column(
            column, values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        )
    pq.write_table(table, root / name)


def to_v21(root: Path) -> Path:
    """One data and one video file for each episode, metadata as JSON lines."""
    rows = pq.read_table(root / DATA)
    begins = np.cumsum([0, *LENGTHS])
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pylist()
    index = pq.read_table(root / EPISODE_TABLE).to_pylist()
    for name in ("data", "videos", "meta/episodes"):
        shutil.rmtree(root / name)
    (root / "meta/tasks.parquet").unlink()
    edit_info(
        root,
        codebase_version="v2.1",
        chunks_size=2,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    for number, length in enumerate(LENGTHS):
        path = root / f"data/chunk-{number // 2:03d}/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.slice(begins[number], length), path)
        for camera, key in enumerate(CAMERAS):
            levels = [brightness(camera, row) for row in range(begins[number], begins[number] + length)]
            write_video(root / f"videos/chunk-{number // 2:03d}/{key}/episode_{number:06d}.mp4", levels)
    lines = [{"episode_index": row["episode_index"], "tasks": row["tasks"], "length": row["length"]} for row in index]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (root / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)) + "\n")
    return root


def to_lance(root: Path, *, blobs: bool = True) -> Path:
    """Rows and videos as Lance tables; dots in names become underscores."""
    import lance

    rows = pq.read_table(root / DATA)
    vectors = {
        name: pa.FixedSizeListArray.from_arrays(rows[name].combine_chunks().flatten().cast(pa.float32()), size)
        for name, size in (("observation.state", 2), ("action", 3))
    }
    columns = {name: vectors.get(name, rows[name].combine_chunks()) for name in rows.column_names}
    lance.write_dataset(
        pa.table({name.replace(".", "_"): column for name, column in columns.items()}), root / "frames.lance"
    )
    kind = pa.field("video_bytes", pa.large_binary(), metadata={"lance-encoding:blob": "true"} if blobs else None)
    schema = pa.schema(
        [
            pa.field("video_key", pa.string()),
            pa.field("chunk_index", pa.int64()),
            pa.field("file_index", pa.int64()),
            kind,
        ]
    )
    videos = [(root / VIDEO.format(key)).read_bytes() for key in CAMERAS]
    lance.write_dataset(pa.table([list(CAMERAS), [0] * 3, [0] * 3, videos], schema=schema), root / "videos.lance")
    for name in ("data", "videos"):
        shutil.rmtree(root / name)
    edit_info(root, storage_format="lance")
    return root


def to_pictures(root: Path, *, files: bool = False, kind: str = "PNG") -> Path:
    """Pictures in the rows, as bytes or as names of files beside them."""
    for camera, key in enumerate(CAMERAS):
        values = []
        for row in range(sum(LENGTHS)):
            data = picture(brightness(camera, row), kind=kind)
            name = f"images/{key}/{row:06d}.png"
            if files:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)
            values.append({"bytes": None if files else data, "path": name})
        set_column(root, DATA, key, pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        edit_feature(root, key, {"dtype": "image", "shape": [*SIZE, 3], "names": ["height", "width", "channels"]})
    shutil.rmtree(root / "videos")
    edit_info(root, video_path=None)
    return root


def picture(level: int, size: tuple[int, int] = SIZE, kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    color = level if mode in ("L", "I;16") else (level,) * len(mode)
    Image.new(mode, (size[1], size[0]), color).save(out, kind, **({"quality": 100} if kind != "PNG" else {}))
    return out.getvalue()
