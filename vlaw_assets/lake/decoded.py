"""Frames that were asked for a second time, as pixels in a file without a name: a training asks for each many times.

The file is gone with the object or the process. It holds at most MOST bytes, and a quarter of what was free; frames
beyond that, or on a disk that has become full, are decoded every time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from typing import IO, Any

import numpy as np

MOST = 4 << 30
SHARE = 4
"""One part in so many of the free disk space."""


class DecodedFrames:
    """Pixels by number of row. Safe to use from several threads; a pickled copy begins with none."""

    def __init__(self, rows: int, shape: tuple[int, ...]):
        """`shape`: of one frame, uint8."""
        self._rows, self._shape, self._size = rows, shape, int(np.prod(shape))
        self._asked, self._kept = np.zeros(rows, bool), np.zeros(rows, bool)
        self._file: IO[bytes] | None = None
        self._left = -1
        """Bytes that may still be kept; -1: nobody has looked yet."""
        self._lock = threading.Lock()

    def read(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fills `out` (N, *shape) with the frames of these rows, rising, that are kept. Returns which are (N,) bool."""
        kept = self._kept[rows]
        if self._file is None or not kept.any():
            return np.zeros(len(rows), bool)
        here = np.flatnonzero(kept)
        # Views of a step, and steps that follow each other, lie side by side: one read for each run of them.
        ends = np.flatnonzero((np.diff(rows[here]) != 1) | (np.diff(here) != 1)) + 1
        for run in np.split(here, ends):
            begin, end = int(run[0]), int(run[-1]) + 1
            wanted = (end - begin) * self._size
            if os.preadv(self._file.fileno(), [out[begin:end].data], int(rows[begin]) * self._size) != wanted:
                kept[begin:end] = False
        return kept

    def note(self, rows: np.ndarray, pictures: np.ndarray) -> None:
        """What was decoded of these rows, (N, *shape): kept if they had been asked for before."""
        again = self._asked[rows] & ~self._kept[rows]
        self._asked[rows] = True
        with self._lock:
            for place in np.flatnonzero(again):
                if not self._keep(int(rows[place]), pictures[place]):
                    break

    def _keep(self, row: int, picture: np.ndarray) -> bool:
        """False where there is no room."""
        try:
            if self._left < 0:
                self._left = min(MOST, shutil.disk_usage(tempfile.gettempdir()).free // SHARE)
            if self._left < self._size:
                return False
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (as long as the object)
            if os.pwrite(self._file.fileno(), picture.data, row * self._size) != self._size:
                raise OSError("the disk has no room for all of a frame")
        except OSError:  # nothing is lost: the frame is decoded again
            self._left = 0
            return False
        self._left -= self._size
        self._kept[row] = True
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return DecodedFrames, (self._rows, self._shape)
