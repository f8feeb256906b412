"""The frames of an episode's cameras: stretches of videos that episodes share, or pictures in its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

import numpy as np

from vlaw_assets.importers.files import Folder, MissingFileError, printable
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.lerobot_index import Clips, EpisodeIndex
from vlaw_assets.importers.lerobot_rows import NUMBERS_PER_ROW, RowMap, RowSource
from vlaw_assets.importers.pictures import MAX_BYTES, read_picture
from vlaw_assets.importers.videos import Video, VideoError
from vlaw_models.errors import VlawError

MAX_FILES = 10**7
Place = tuple[int, int]
"""Chunk and file."""


class Frames(Protocol):
    """Frames of one camera feature."""

    def read(self, number: int, keep: Sequence[int], image_size: tuple[int, int]) -> np.ndarray:
        """(len(keep), height, width, 3) uint8 of the rows `keep` of an episode. `VideoError` where one is missing."""

    def close(self) -> None: ...


@dataclass
class VideoFrames:
    """Out of videos; going from one episode to the next decodes each file once."""

    key: str
    clips: Clips
    lengths: np.ndarray
    fps: float
    shape: tuple[int, int]
    """(height, width), as declared."""
    open: Callable[[Place], BinaryIO]
    name: Callable[[Place], str]
    """Of a file, for people."""
    _open: tuple[Place, Video] | None = field(default=None, repr=False)

    def read(self, number: int, keep: Sequence[int], image_size: tuple[int, int]) -> np.ndarray:
        chunk, file = self.clips.places[number].tolist()
        try:
            video = self._video((chunk, file))
            begin = float(self.clips.begins[number])
            return video.read(begin, int(self.lengths[number]), self.fps, keep, image_size)
        except VideoError as fault:
            self.close()  # wherever a damaged file has left the decoder
            raise VideoError(f"{fault.what} ({self.name((chunk, file))})", fault.row, fault.rule) from fault

    def _video(self, place: Place) -> Video:
        if self._open is None or self._open[0] != place:
            self.close()
            self._open = place, Video(self.open(place), self.shape)
        return self._open[1]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


@dataclass
class RowPictures:
    """Out of rows that hold a picture each, as bytes or as the name of a file inside the dataset."""

    key: str
    folder: Folder
    source: RowSource
    rows: RowMap
    shape: tuple[int, int]
    files: frozenset[str]
    """Those that rows name and that were there when the dataset was opened: its digest covers them."""

    def read(self, number: int, keep: Sequence[int], image_size: tuple[int, int]) -> np.ndarray:
        place, first = int(self.rows.place[number]), int(self.rows.first[number])
        frames = np.empty((len(keep), *image_size, 3), np.uint8)
        for position, row in enumerate(keep):
            found = self.source.take(place, first + int(row), 1, [self.key], most_values=NUMBERS_PER_ROW)
            data = self._bytes(found.column(0)[0].as_py(), int(row))
            frames[position] = read_picture(data, self.shape, image_size, row=int(row))
        return frames

    def _bytes(self, value: object, row: int) -> bytes:
        if isinstance(value, dict):
            inside, path = value.get("bytes"), value.get("path")
            if inside is None and isinstance(path, str) and path:
                if path not in self.files:
                    raise VideoError(f"the picture of row {row} is missing: {printable(path)}", row, "missing")
                with self.folder.open(path, what=f"picture of row {row}, camera {self.key}") as file:
                    return file.read(MAX_BYTES + 1)
            value = inside
        if not isinstance(value, bytes):
            raise VideoError(f"{self.key} has no picture in row {row}", row, "missing")
        return value

    def close(self) -> None:
        """Nothing is kept open but what the rows keep."""


def picture_files(folder: Folder, source: RowSource, places: Collection[int], key: str) -> list[str]:
    """The files that rows name instead of holding their pictures, without those that are missing. VlawError for one
    that lies outside of the dataset."""
    found: dict[str, None] = {}
    for place in sorted(places):
        if not source.may_lack(place, key):
            continue
        for batch in source.scan(place, [key]):
            for value in batch.column(0).to_pylist():
                path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
                if isinstance(path, str) and path:
                    found[path] = None
            if len(found) > MAX_FILES:
                raise VlawError(
                    f"{key} names more than {MAX_FILES} files",
                    where=source.files[place],
                    remedy="Keep them in the rows.",
                )
    there = []
    for path in found:
        try:
            folder.locate(path, what=f"picture of camera {key}")
        except MissingFileError:
            continue  # a fault of the episode that needs it
        there.append(path)
    return there


def clip_faults(index: EpisodeIndex, fps: float) -> dict[int, Finding]:
    """Of the episodes whose stretch of a video is not as long as they are, or is another episode's too."""
    faults: dict[int, Finding] = {}
    for key, clips in index.clips.items():
        rows = (clips.ends - clips.begins) * fps
        for number in np.flatnonzero(np.abs(rows - index.lengths) > 0.5).tolist():
            faults[number] = Finding(
                "video_span",
                f"episode {number} claims {clips.begins[number]:g} s to {clips.ends[number]:g} s of the video of "
                f"{key}; its {index.lengths[number]} rows at {fps:g} Hz take {index.lengths[number] / fps:g} s",
                "excluded",
                number,
            )
        order = np.lexsort((clips.begins, clips.places[:, 1], clips.places[:, 0]))
        order = order[[number not in faults for number in order.tolist()]]
        same = (clips.places[order][1:] == clips.places[order][:-1]).all(axis=1)
        over = same & (clips.begins[order][1:] < clips.ends[order][:-1] - 0.5 / fps)
        for position in np.flatnonzero(over).tolist():
            pair = [int(order[position]), int(order[position + 1])]
            for number, other in (pair, pair[::-1]):
                text = f"episodes {number} and {other} claim the same frames of the video of {key}"
                faults.setdefault(number, Finding("video_span", text, "excluded", number))
    return faults


def unused_frames(index: EpisodeIndex, fps: float) -> list[Finding]:
    """Notes of stretches between episodes that no episode names."""
    notes = []
    for key, clips in index.clips.items():
        order = np.lexsort((clips.begins, clips.places[:, 1], clips.places[:, 0]))
        same = (clips.places[order][1:] == clips.places[order][:-1]).all(axis=1)
        first = np.concatenate([[True], ~same])
        gaps = np.where(
            first, clips.begins[order], clips.begins[order] - np.concatenate([[0.0], clips.ends[order][:-1]])
        )
        frames = int(np.rint(np.maximum(gaps, 0) * fps).sum())
        if frames:
            notes.append(
                Finding(
                    "unused_frames", f"{frames} frames of the videos of {key} belong to no episode: skipped", "keep"
                )
            )
    return notes
