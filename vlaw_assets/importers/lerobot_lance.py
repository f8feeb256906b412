"""Lance storage of a LeRobot dataset v3: rows in frames.lance, videos as bytes in videos.lance, meta/ as ever.

Columns of frames.lance are the feature keys with underscores for dots; row N is frame N. Both tables must lie inside
the dataset in full: a table may name other folders, and a video may be the address of one, and neither is followed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from vlaw_assets.importers.files import BROKEN, Folder
from vlaw_assets.importers.lerobot_format import Info
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

FRAMES, VIDEOS = "frames.lance", "videos.lance"
BYTES = "video_bytes"
KEY_COLUMNS = ("video_key", "chunk_index", "file_index")
MAX_FILES = 10**6
BATCH = 4096


def to_column(key: str) -> str:
    return key.replace(".", "_")


def table_files(folder: Folder, name: str) -> list[str]:
    """Every file of a table, each inside the dataset. VlawError for one that is not, or no table."""
    found: list[str] = []
    top = folder.root / name
    if top.is_symlink() or not top.is_dir():
        raise VlawError(f"the dataset has no table {name}", where=str(top), remedy=BROKEN)
    for parent, folders, files in os.walk(top):
        linked = [inner for inner in folders if os.path.islink(os.path.join(parent, inner))]
        if linked:
            raise VlawError(
                f"folder {linked[0]!r} of the table is a link",
                where=parent,
                remedy="Copy the dataset with its links followed (cp -rL), if you trust what they point to.",
            )
        found += [os.path.relpath(os.path.join(parent, file), folder.root) for file in files]
        if len(found) > MAX_FILES:
            raise VlawError(f"the table {name} has more than {MAX_FILES} files", where=str(top), remedy=BROKEN)
    for file in found:
        if os.path.getsize(folder.root / file) or os.path.islink(folder.root / file):
            folder.locate(file, what=f"file of table {name}")
    return sorted(file for file in found if os.path.getsize(folder.root / file))


@contextmanager
def readable(where: str) -> Iterator[None]:
    """A block that reads a table: whatever Lance says of a damaged one is a VlawError, its panics too."""
    try:
        yield
    except VlawError:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # Rust's, of a class that nothing exports
        if not panic and not isinstance(error, Exception):
            raise
        raise VlawError(f"the table cannot be read: {str(error)[:200]}", where=where, remedy=BROKEN) from error


def open_table(folder: Folder, name: str) -> lance.LanceDataset:
    """The newest version of a table. VlawError where it is damaged or reaches outside the dataset."""
    import lance

    where = str(folder.root / name)
    with readable(where):
        table = lance.dataset(where)
        elsewhere = bool(table.base_paths()) or any(
            "/" in file.path or ".." in file.path for part in table.get_fragments() for file in part.data_files()
        )
    if elsewhere:
        raise VlawError(
            "the table names files outside the dataset",
            where=where,
            remedy="Do not import this dataset unless you know why it points there.",
        )
    return table


@dataclass
class LanceRows:
    """Rows of frames.lance."""

    folder: Folder
    info: Info
    files: Sequence[str] = (FRAMES,)
    _table: lance.LanceDataset | None = field(default=None, repr=False)

    def table(self) -> lance.LanceDataset:
        """VlawError where it has other rows than the dataset says."""
        if self._table is None:
            table = open_table(self.folder, FRAMES)
            with readable(str(self.folder.root / FRAMES)):
                count = table.count_rows()
                _ = table.schema
            if count != self.info.frames:
                raise VlawError(
                    f"info.json counts {self.info.frames} frames, the table has {count} rows",
                    where=str(self.folder.root / FRAMES),
                    remedy=BROKEN,
                )
            self._table = table
        return self._table

    def columns(self, place: int) -> Sequence[str]:
        del place
        keys = {to_column(key): key for key in self.info.features}
        return [keys.get(name, name) for name in self.table().schema.names]

    def _stored(self, columns: Sequence[str]) -> list[str]:
        names = self.table().schema.names
        stored = [to_column(key) if to_column(key) in names else key for key in columns]
        missing = [key for key, name in zip(columns, stored, strict=True) if name not in names]
        if missing:
            raise VlawError(
                f"the table has no column {missing[0]!r}", where=str(self.folder.root / FRAMES), remedy=BROKEN
            )
        return stored

    def scan(self, place: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        del place
        stored = self._stored(columns)
        with readable(self._where):
            for batch in self.table().scanner(columns=stored, batch_size=BATCH).to_batches():
                yield batch.select(stored)

    def take(self, place: int, begin: int, count: int, columns: Sequence[str], *, most_values: int) -> pa.Table:
        del place, most_values
        stored = self._stored(columns)
        with readable(self._where):
            found = self.table().scanner(columns=stored, offset=begin, limit=count).to_table()
            return found.select(stored).rename_columns(list(columns))

    def may_lack(self, place: int, key: str) -> bool:
        del place, key
        return True

    @property
    def _where(self) -> str:
        return str(self.folder.root / FRAMES)

    def close(self) -> None:
        self._table = None


@dataclass
class LanceVideos:
    """Videos of videos.lance, one in each row."""

    folder: Folder
    _table: lance.LanceDataset | None = field(default=None, repr=False)
    _rows: dict[tuple[str, int, int], int] = field(default_factory=dict, repr=False)

    def load(self) -> None:
        """Finds which row is which file. VlawError where the table is damaged, or a video is somewhere else."""
        self._table = table = open_table(self.folder, VIDEOS)
        where = str(self.folder.root / VIDEOS)
        with readable(where):
            names = table.schema.names
        missing = [name for name in (*KEY_COLUMNS, BYTES) if name not in names]
        if missing:
            raise VlawError(f"the table has no column {missing[0]!r}", where=where, remedy=BROKEN)
        outside = []
        with readable(where):
            found = table.to_table(columns=list(KEY_COLUMNS))
            if self._described(table.schema.field(BYTES)):
                described = table.to_table(columns=[BYTES], blob_handling="blobs_descriptions")[BYTES]
                outside = [value for value in described.to_pylist() if _outside(value)]
        if outside:
            raise VlawError(
                "a video of the table is only the address of one",
                where=where,
                remedy="Write the videos into the table, with LeRobot's own tools.",
            )
        keys = list(zip(*(found[name].to_pylist() for name in KEY_COLUMNS), strict=True))
        self._rows = {key: row for row, key in enumerate(keys)}
        if len(self._rows) != len(keys):
            raise VlawError("a video is in the table twice", where=where, remedy=BROKEN)

    @staticmethod
    def _described(kind: pa.Field) -> bool:
        """Whether the column is one of blobs, which are read as files, and not of plain bytes."""
        return not str(kind.type).endswith("binary") or (kind.metadata or {}).get(b"lance-encoding:blob") == b"true"

    def has(self, key: str, place: tuple[int, int]) -> bool:
        return (key, *place) in self._rows

    def open(self, key: str, place: tuple[int, int]) -> BinaryIO:
        if self._table is None:
            self.load()
        assert self._table is not None
        row = self._rows[(key, *place)]
        with readable(str(self.folder.root / VIDEOS)):
            if not self._described(self._table.schema.field(BYTES)):
                return io.BytesIO(self._table.take([row], columns=[BYTES])[BYTES][0].as_py() or b"")
            (blob,) = self._table.take_blobs(BYTES, indices=[row])
        return blob if blob is not None else io.BytesIO(b"")


def _outside(value: Any) -> bool:
    return isinstance(value, dict) and any("uri" in name and bool(found) for name, found in value.items())
