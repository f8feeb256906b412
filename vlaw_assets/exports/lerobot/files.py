"""Numbered files that are filled one after the other, rolled by size as LeRobot rolls them: tables and videos."""

from __future__ import annotations

import os
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlaw_assets.exports.lerobot.layout import KEY_EVERY, Layout, Place


class ParquetFiles:
    """Tables of one schema; what is added together is one row group of one file."""

    def __init__(self, root: Path, pattern: str, schema: pa.Schema, most: int):
        """`most`: bytes of a file at which the next one is begun."""
        self._root, self._pattern, self._schema, self._most = root, pattern, schema, most
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self.place = Place()

    def place_for(self, rows: int) -> Place:
        """The file that so many more rows go to."""
        if self._file is not None and self._rows:
            size = self._file.tell()
            if size + size / self._rows * rows >= self._most:
                self.close()
                self.place = self.place.next()
        return self.place

    def add(self, table: pa.Table) -> None:
        """Into the file that `place_for` has named."""
        if self._writer is None:
            path = self._root / self.place.path(self._pattern)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._rows = path.open("wb"), 0
            self._writer = pq.ParquetWriter(self._file, self._schema, compression="snappy")
        self._writer.write_table(table.cast(self._schema), row_group_size=max(1, table.num_rows))
        self._rows += table.num_rows

    def close(self) -> None:
        with ExitStack() as stack:
            if self._file is not None:
                stack.callback(self._file.close)
            if self._writer is not None:
                stack.callback(self._writer.close)
            self._file = self._writer = None


class VideoFiles:
    """The frames of one camera, episode after episode, at a constant rate from 0 s of each file."""

    def __init__(self, root: Path, key: str, layout: Layout, most: int):
        self._root, self._key, self._layout, self._most = root, key, layout, most
        self._rate = Fraction(layout.rate).limit_denominator(100_000)
        self._container: Any = None
        self._stream: Any = None
        self._frames = self._bytes = 0
        self.place = Place()

    def add(self, frames: np.ndarray) -> tuple[Place, float, float]:
        """(Its file, where it begins and ends in it in seconds) of one more episode, (n, h, w, 3) uint8."""
        import av

        if self._frames and self._bytes + self._bytes / self._frames * len(frames) >= self._most:
            self.close()
            self.place = self.place.next()
        if self._container is None:
            self._open()
        begin = self._frames
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self._frames, 1 / self._rate
            self._frames += 1
            self._mux(self._stream.encode(frame))
        return self.place, float(begin / self._rate), float(self._frames / self._rate)

    def _open(self) -> None:
        import av

        os.environ.setdefault("SVT_LOG", "1")  # or the encoder prints its settings
        codec, (height, width) = self._layout.codec, self._layout.size
        path = self._root / self.place.path(self._layout.files.videos, self._key)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._frames = self._bytes = 0
        self._stream = self._container.add_stream(codec.encoder, rate=self._rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self._layout.pixels
        self._stream.time_base = self._stream.codec_context.time_base = 1 / self._rate
        self._stream.codec_context.gop_size = KEY_EVERY
        self._stream.codec_context.options = {"crf": str(codec.quality), "preset": codec.preset, **dict(codec.more)}

    def _mux(self, packets: list[Any]) -> None:
        self._bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)

    def close(self) -> None:
        """Ends the file: what the encoder still holds, and the index without which nothing plays it."""
        if self._container is None:
            return
        try:
            self._mux(self._stream.encode())
        finally:
            container, self._container = self._container, None
            container.close()
