"""Episodes of one artifact whose frames stay in Lance: the pinned rows, read and decoded when they are asked for.

What is held in memory is metadata, states, actions and where each episode's frames begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vlaw_assets.lake import frames
from vlaw_assets.lake.decoded import DecodedFrames
from vlaw_assets.lake.lance_rows import LanceRows
from vlaw_assets.lake.paths import Paths
from vlaw_models.episodes import Episode
from vlaw_models.sources import EpisodeSource, Frames, Pairs


class LanceEpisodes(EpisodeSource):
    """Made by `Handle.source`, which has verified the files."""

    portable = True

    def __init__(self, paths: Paths, entry: dict[str, Any] | None, episodes: Sequence[Episode]):
        """`entry`: what `FrameWriter.commit` returned; `episodes`: without their frames. Raises VlawError for frames
        that are not there or not in order."""
        self._rows = LanceRows(paths.frames, entry, "frames") if entry and episodes else None
        places = self._rows.places() if self._rows else {}
        found = [places.get(episode.episode_id) for episode in episodes]
        self._end = max((place.begin + place.steps * place.views for place in places.values()), default=0)
        self._decoded: dict[tuple[int, ...], DecodedFrames] = {}
        self._begins = [place.begin if place else 0 for place in found]
        self._episodes = [
            replace(episode, images=Frames(self, index, (place.steps if place else 0, *episode.images.shape[1:])))
            for index, (episode, place) in enumerate(zip(episodes, found, strict=True))
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
        if self._rows is not None:
            kept = self._decoded_of(shape[1:])
            missing = np.flatnonzero(~kept.read(rows, pictures))
            if len(missing):
                decoded = self._decode(self._rows, rows[missing], shape[1:])
                kept.note(rows[missing], decoded)
                pictures[missing] = decoded
        in_order = len(back) == len(rows) and (np.diff(back) == 1).all()
        return (pictures if in_order else pictures[back]).reshape(len(pairs), *shape)

    def stored(self, index: int, steps: int) -> list[bytes]:
        """The first `steps` frames of an episode as they are stored, PNG or JPEG, one per view: `frames.decode` gives
        what `take` does."""
        if self._rows is None:
            return []
        count = steps * self._episodes[index].images.shape[1]
        rows = self._begins[index] + np.arange(count)
        return [data.as_py() for _, column in self._rows.take(rows, "image") for data in column]

    def _decoded_of(self, shape: tuple[int, ...]) -> DecodedFrames:
        """Frames that are kept as pixels. All of one artifact have one size, else each size has its own."""
        if shape not in self._decoded:
            self._decoded[shape] = DecodedFrames(self._end, shape)
        return self._decoded[shape]

    def _decode(self, source: LanceRows, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The frames of these rows, rising, read from Lance: (N, height, width, 3)."""
        pictures = np.empty((len(rows), *shape), np.uint8)
        for here, column in source.take(rows, "image"):
            try:
                for row, data in zip(here, column, strict=True):
                    pictures[row] = frames.decode(data.as_py())
            except (OSError, ValueError) as error:
                raise source.damaged(error) from error
        return pictures
