"""Episodes whose frames are read when they are asked for: metadata at once, pictures by row.

A source is a sequence of episodes. Their `images` look like arrays (shape, dtype, len, indexing) and hold no pixels:
`episode.images[3]` reads one frame. So whatever indexes images works on arrays and on sources alike; `gather` reads
many frames of many episodes at once. The lake has a source of its own.
"""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from vlaw_models.episodes import Episode

Pairs = Sequence[tuple[int, int]]
"""(number of an episode, number of one of its frames), each from 0."""


class EpisodeSource(Sequence[Episode]):
    """Episodes with metadata, states and actions in memory, and frames where they lie.

    Safe to read from several threads.
    """

    portable: bool = False
    """Whether a pickled copy is small and reads on its own in another process: what is open is opened again."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Episode:  # type: ignore[override]
        """With `Frames` for images, unless they are in memory anyway."""

    @abstractmethod
    def take(self, pairs: Pairs) -> np.ndarray:
        """Frames in the order of `pairs`: (N, V, height, width, 3) uint8, N >= 1. Raises VlawError where they cannot be
        read."""

    def frames(self, index: int, steps: Iterable[int] | None = None) -> np.ndarray:
        """Frames of one episode, all or those of these numbers: (T', V, height, width, 3) uint8."""
        images = self[index].images
        steps = range(len(images)) if steps is None else list(steps)
        return self.take([(index, step) for step in steps]) if steps else np.empty((0, *images.shape[1:]), np.uint8)

    def loaded(self, index: int) -> Episode:
        """The episode with its frames in memory."""
        return replace(self[index], images=self.frames(index))


class Reader(Protocol):
    """Where frames, or what was made of them, are read by number."""

    portable: bool
    """Whether a pickled copy is small and reads on its own in another process."""

    def take(self, pairs: Pairs) -> np.ndarray:
        """(N, ...) in the order of `pairs`, N >= 1. Raises VlawError where they cannot be read."""


class KeptLatents(Protocol):
    """Latents of episodes that an autoencoder has encoded before."""

    def of(self, episode: Episode) -> Frames:
        """Those of an episode's frames: (T', C, V*h, w), read when indexed. Raises VlawError where there are none."""


class Frames:
    """One episode's frames in a source: (T', V, height, width, 3) uint8, read when indexed; or other arrays, one per
    frame."""

    def __init__(self, source: Reader, index: int, shape: tuple[int, ...], dtype: Any = np.uint8):
        self.source, self.index, self.shape, self.dtype = source, index, shape, np.dtype(dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """As of an array: by number, slice or array of numbers; what follows is applied to the frames read."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            return np.asarray(self)[key]
        steps = np.asarray(np.arange(len(self))[first])
        read = self._read(steps.ravel().tolist()).reshape(*steps.shape, *self.shape[1:])
        return read[(*[slice(None)] * steps.ndim, *rest)] if rest else read

    def __iter__(self) -> Iterator[np.ndarray]:
        """One after the other, each read on its own."""
        return (self[step] for step in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001 (numpy's signature)
        if copy is False:
            raise ValueError("frames that are not in memory cannot be given without a copy")
        return np.asarray(self._read(range(len(self))), dtype)

    def _read(self, steps: Sequence[int]) -> np.ndarray:
        if not len(steps):
            return np.empty((0, *self.shape[1:]), self.dtype)
        return self.source.take([(self.index, step) for step in steps])


def cut(images: np.ndarray | Frames, length: int) -> np.ndarray | Frames:
    """The first `length` frames of an episode; frames that are not in memory stay where they are."""
    if not isinstance(images, Frames):
        return images[:length]
    return Frames(images.source, images.index, (min(length, len(images)), *images.shape[1:]), images.dtype)


def portable(images: Iterable[np.ndarray | Frames]) -> bool:
    """Whether other processes can read all of these episodes' frames: what is in memory would have to be copied."""
    return all(isinstance(found, Frames) and found.source.portable for found in images)


def gather(images: Sequence[np.ndarray | Frames], pairs: Pairs) -> np.ndarray:
    """Frame `step` of `images[number]` for each (number, step): (N, V, height, width, 3), one read per source."""
    parts: dict[int, tuple[Reader, list[int], list[tuple[int, int]]]] = {}
    out: np.ndarray | None = None
    for row, (number, step) in enumerate(pairs):
        found = images[number]
        if isinstance(found, Frames):
            _, rows, wanted = parts.setdefault(id(found.source), (found.source, [], []))
            rows.append(row)
            wanted.append((found.index, step))
            continue
        frame = found[step]
        out = np.empty((len(pairs), *frame.shape), frame.dtype) if out is None else out
        out[row] = frame
    for source, rows, wanted in parts.values():
        read = source.take(wanted)
        out = np.empty((len(pairs), *read.shape[1:]), read.dtype) if out is None else out
        out[rows] = read
    if out is None:
        raise ValueError("no frame was asked for")
    return out


class MemoryEpisodes(EpisodeSource):
    """Episodes that are in memory, as a source."""

    def __init__(self, episodes: Sequence[Episode]):
        self._episodes = list(episodes)

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> Episode:  # type: ignore[override]
        return self._episodes[index]

    def take(self, pairs: Pairs) -> np.ndarray:
        return np.stack([self._episodes[index].images[step] for index, step in pairs])


class ScratchEpisodes(EpisodeSource):
    """Episodes whose frames were put into a file without a name, which is gone with the object or the process.

    For what a stage makes and looks at again, such as replays. Only its own process can read it.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the object)
        self._episodes: list[Episode] = []
        self._begins: list[int] = []
        self._end = 0

    def append(self, episodes: Iterable[Episode]) -> None:
        """Frames go to the file; the rest stays in memory. Raises OSError where there is no space."""
        for episode in episodes:
            images = np.ascontiguousarray(episode.images)
            self._begins.append(self._end)
            self._end += self._file.write(images.data)
            number = len(self._episodes)
            self._episodes.append(replace(episode, images=Frames(self, number, images.shape)))
        self._file.flush()

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> Episode:  # type: ignore[override]
        return self._episodes[index]

    def take(self, pairs: Pairs) -> np.ndarray:
        shape = self._episodes[pairs[0][0]].images.shape[1:]
        out = np.empty((len(pairs), *shape), np.uint8)
        size = out[0].nbytes
        for row, (index, step) in enumerate(pairs):
            data = os.pread(self._file.fileno(), size, self._begins[index] + step * size)
            out[row] = np.frombuffer(data, np.uint8).reshape(shape)
        return out
