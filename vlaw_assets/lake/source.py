"""Episodes of one artifact whose frames stay in Lance: the pinned rows, read and decoded when they are asked for.

What is held in memory is metadata, states, actions and where each episode's frames begin. A fork of a process must not
use what Lance has open; so each process opens the table for itself, and a pickled copy opens it anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc

from vlaw_assets.lake import disk, frames
from vlaw_assets.lake.paths import Paths
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.sources import EpisodeSource, Frames, Pairs


class LanceEpisodes(EpisodeSource):
    """Made by `Handle.source`, which has verified the files."""

    def __init__(self, paths: Paths, entry: dict[str, Any] | None, episodes: Sequence[Episode]):
        """`entry`: what `FrameWriter.commit` returned; `episodes`: without their frames. Raises VlawError for frames
        that are not there or not in order."""
        self._paths, self._entry = paths, entry or {}
        self._opened: tuple[int, list[Any]] = (0, [])
        self._lock = threading.Lock()
        self._first_rows = np.zeros(1, np.int64)
        """(fragments + 1,): the number of each fragment's first row, counted through the artifact's fragments."""
        places = self._find({episode.episode_id for episode in episodes}) if entry and episodes else {}
        none = (0, 0)
        self._begins = [places.get(episode.episode_id, none)[0] for episode in episodes]
        self._episodes = [
            replace(
                episode,
                images=Frames(self, index, (places.get(episode.episode_id, none)[1], *episode.images.shape[1:])),
            )
            for index, episode in enumerate(episodes)
        ]

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> Episode:  # type: ignore[override]
        return self._episodes[index]

    def take(self, pairs: Pairs) -> np.ndarray:
        shape = self._episodes[pairs[0][0]].images.shape[1:]
        views = np.arange(shape[0])
        rows = np.concatenate([self._begins[index] + step * shape[0] + views for index, step in pairs])
        # Each row once, in order: the same frame may be asked for several times, and Lance reads forwards best.
        rows, back = np.unique(rows, return_inverse=True)
        pictures = np.empty((len(rows), *shape[1:]), np.uint8)
        which = np.searchsorted(self._first_rows, rows, side="right") - 1
        try:
            for number in np.unique(which):
                here = np.flatnonzero(which == number)
                local = (rows[here] - self._first_rows[number]).tolist()
                column = self._fragments()[number].take(local, columns=["image"])["image"]
                for row, data in zip(here, column, strict=True):
                    pictures[row] = frames.decode(data.as_py())
        except (OSError, ValueError) as error:
            raise _damaged(self._paths, error) from error
        return pictures[back].reshape(len(pairs), *shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": (0, []), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def _fragments(self) -> list[Any]:
        with self._lock:
            if self._opened[0] != os.getpid():
                self._opened = os.getpid(), frames.fragments_of(self._paths, self._entry)[1]
            return self._opened[1]

    def _find(self, wanted: set[str]) -> dict[str, tuple[int, int]]:
        """Episode id -> (its first row, its number of frames). Rows of an episode are together, by step and camera."""
        try:
            dataset, fragments = frames.fragments_of(self._paths, self._entry)
            self._opened = os.getpid(), fragments
            self._first_rows = np.cumsum([0, *(fragment.count_rows() for fragment in fragments)])
            table = dataset.scanner(columns=["episode_id", "step"], fragments=fragments, scan_in_order=True).to_table()
        except (OSError, ValueError) as error:
            raise _damaged(self._paths, error) from error
        encoded = pc.dictionary_encode(table["episode_id"]).combine_chunks()
        codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        steps = table["step"].to_numpy()
        cuts = [*np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]).tolist(), len(codes)] if len(codes) else [0]
        found: dict[str, tuple[int, int]] = {}
        for begin, end in pairwise(cuts):
            name, own = names[codes[begin]], steps[begin:end]
            count = int(own[-1] - own[0]) + 1
            views, left = divmod(end - begin, count)
            if name in found or left or (own != np.repeat(np.arange(own[0], own[0] + count), views)).any():
                raise _damaged(self._paths, ValueError(f"the frames of episode {name} are not in order"))
            if name in wanted:
                found[name] = begin, count
        return found


def _damaged(paths: Paths, error: Exception) -> VlawError:
    disk.refuse_if_out_of_files(error)
    return VlawError(
        f"frames cannot be read: {error}",
        where=str(paths.frames),
        remedy="restore the file, or re-materialize with force",
    )
