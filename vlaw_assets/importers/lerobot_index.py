"""The episode index of a LeRobot dataset v3.0: which rows and which stretch of which video file an episode is.

It is held as columns: a hundred thousand episodes are a few arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers.files import BROKEN, Folder, shown
from vlaw_assets.importers.lerobot_format import Info
from vlaw_assets.importers.lerobot_labels import is_label
from vlaw_assets.importers.tables import Table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

EPISODES = "meta/episodes"
MAX_TEXT = 10_000
"""Characters of an instruction."""
MAX_TASKS = 64
"""Instructions of one episode."""


@dataclass(frozen=True)
class Clips:
    """Of one camera, where each episode's frames are."""

    places: np.ndarray
    """(N, 2) int64: chunk and file."""
    begins: np.ndarray
    ends: np.ndarray
    """(N,) float64 seconds within the file."""


@dataclass(frozen=True)
class EpisodeIndex:
    """All episodes, numbered from 0."""

    files: tuple[str, ...]
    """Relative paths of what it was read from."""
    lengths: np.ndarray
    """(N,) int64 rows."""
    tasks: Sequence[tuple[str, ...]]
    """The instructions that the index gives each."""
    places: np.ndarray
    """(N, 2) int64: chunk and file of its rows."""
    clips: Mapping[str, Clips]
    """Camera feature -> where its frames are; none where they are no videos."""
    labels: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Columns of the index that hold success labels."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def begins(self) -> np.ndarray:
        """(N,) int64: number of each one's first row in the dataset."""
        return np.cumsum(self.lengths) - self.lengths


def read_index(folder: Folder, info: Info, cameras: Sequence[str], success_key: str) -> EpisodeIndex:
    """The index, checked: numbered from 0, tiling the dataset's rows, adding up to what info.json says.

    Args:
        cameras: keys of the features whose videos are read.
        success_key: what holds the label, where somebody said it.
    """
    where = str(folder.root / EPISODES)
    files = folder.listed(f"{EPISODES}/chunk-*/file-*.parquet")
    parts = [_Part(_read(folder, name, info, cameras, success_key), str(folder.root / name)) for name in files]
    if not sum(part.table.num_rows for part in parts):
        raise VlawError("the dataset has zero episodes", where=where, remedy="Record some, or give another dataset.")
    numbers = np.concatenate([part.integers("episode_index") for part in parts])
    order = np.argsort(numbers, kind="stable")
    if len(numbers) != info.episodes:
        raise VlawError(
            f"info.json counts {info.episodes} episodes, the episode index has {len(numbers)}",
            where=where,
            remedy=BROKEN,
        )
    wrong = np.flatnonzero(numbers[order] != np.arange(len(order)))
    if len(wrong):
        raise VlawError(
            f"episode {wrong[0]} is missing or there twice (found {numbers[order][wrong[0]]})",
            where=where,
            remedy=BROKEN,
        )

    def joined(read: str, name: str) -> np.ndarray:
        return np.concatenate([getattr(part, read)(name) for part in parts])[order]

    lengths = joined("integers", "length")
    _check_tiling(
        lengths, joined("integers", "dataset_from_index"), joined("integers", "dataset_to_index"), info, where
    )
    tasks = [texts for part in parts for texts in part.texts("tasks")]
    clips = {
        key: Clips(
            np.stack([joined("integers", f"videos/{key}/{name}") for name in ("chunk_index", "file_index")], axis=1),
            joined("seconds", f"videos/{key}/from_timestamp"),
            joined("seconds", f"videos/{key}/to_timestamp"),
        )
        for key in cameras
    }
    names = {name for part in parts for name in part.table.column_names if is_label(name) or name == success_key}
    values = {name: [value for part in parts for value in part.values(name)] for name in sorted(names)}
    return EpisodeIndex(
        tuple(files),
        lengths,
        [tasks[place] for place in order],
        np.stack([joined("integers", f"data/{name}") for name in ("chunk_index", "file_index")], axis=1),
        clips,
        {name: [found[place] for place in order] for name, found in values.items()},
    )


def _read(folder: Folder, name: str, info: Info, cameras: Sequence[str], success_key: str) -> pa.Table:
    with Table(folder, name, what="episode index", most_rows=max(info.episodes * 2, 1000)) as table:
        places = [
            f"videos/{key}/{part}"
            for key in cameras
            for part in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        ]
        needed = [
            "episode_index",
            "length",
            "dataset_from_index",
            "dataset_to_index",
            "data/chunk_index",
            "data/file_index",
            *places,
        ]
        if info.storage == "lance":
            needed = [column for column in needed if not column.startswith("data/")]
        also = [found for found in table.names if found == "tasks" or is_label(found) or found == success_key]
        return table.read([*needed, *dict.fromkeys(column for column in also if column not in needed)])


def _check_tiling(lengths: np.ndarray, begins: np.ndarray, ends: np.ndarray, info: Info, where: str) -> None:
    expected = np.cumsum(lengths) - lengths
    wrong = np.flatnonzero((begins != expected) | (ends != expected + lengths) | (lengths < 1))
    if len(wrong):
        first = int(wrong[0])
        raise VlawError(
            f"episode {first} claims rows {begins[first]} to {ends[first]} with length {lengths[first]}; rows from "
            f"{expected[first]} on were expected: episodes must follow each other without gap or overlap",
            where=where,
            remedy=BROKEN,
        )
    if lengths.sum() != info.frames:
        raise VlawError(
            f"info.json counts {info.frames} frames, the episodes have {lengths.sum()}", where=where, remedy=BROKEN
        )


@dataclass(frozen=True)
class _Part:
    """One file of the index."""

    table: pa.Table
    where: str

    def integers(self, name: str) -> np.ndarray:
        """(rows,) int64, from 0 on."""
        import pyarrow as pa

        if name not in self.table.column_names:  # Lance storage has no files of rows
            return np.zeros(self.table.num_rows, np.int64)
        column = self._column(name)
        if not pa.types.is_integer(column.type):
            raise self._odd(name)
        values = column.to_numpy()
        if len(values) and (values.min() < 0 or values.max() >= 2**62):
            raise self._odd(name)
        return values.astype(np.int64)

    def seconds(self, name: str) -> np.ndarray:
        """(rows,) float64, finite and from 0 on."""
        import pyarrow as pa

        column = self._column(name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise self._odd(name)
        values = column.to_numpy().astype(np.float64)
        if not np.isfinite(values).all() or (values < 0).any() or (values > 1e9).any():
            raise self._odd(name)
        return values

    def texts(self, name: str) -> Iterator[tuple[str, ...]]:
        if name not in self.table.column_names:
            yield from [()] * self.table.num_rows
            return
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        for value in self.values(name):
            found = tuple(checked_texts(value, where=self.where))
            yield known.setdefault(found, found)

    def values(self, name: str) -> Iterator[Any]:
        if name not in self.table.column_names:
            yield from [None] * self.table.num_rows
            return
        for batch in self.table.select([name]).to_batches(max_chunksize=10_000):
            try:
                yield from batch.column(0).to_pylist()
            except (ValueError, OverflowError) as error:  # a text that is no UTF-8, a time beyond all calendars
                raise self._odd(name) from error

    def _column(self, name: str) -> pa.ChunkedArray:
        column = self.table[name]
        if column.null_count:
            first = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise VlawError(f"{name} is missing in row {first}", where=self.where, remedy=BROKEN)
        return column

    def _odd(self, name: str) -> VlawError:
        return VlawError(f"{name}: a number, file or time in the index is not one", where=self.where, remedy=BROKEN)


def checked_texts(value: Any, *, where: str) -> list[str]:
    """The instructions of one episode: texts, without those that say nothing. VlawError for anything else."""
    found = [value] if isinstance(value, str) else value
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MAX_TASKS:
        raise VlawError(f"tasks is {shown(value)}, which is no list of texts", where=where, remedy=BROKEN)
    for text in found:
        if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
            raise VlawError(f"{shown(text)} is no instruction", where=where, remedy=BROKEN)
    return list(dict.fromkeys(text.strip() for text in found if text and text.strip()))
