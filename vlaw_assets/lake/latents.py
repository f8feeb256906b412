"""Latents of episodes in Lance, one row per frame: one table per autoencoder, one tagged version per artifact.

Read by episode and frame. Kept in half precision, as world models learn from them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from vlaw_assets.lake.lance_rows import LanceRows
from vlaw_assets.lake.model_table import ModelTable, table_name
from vlaw_assets.lake.paths import Paths
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.sources import Frames, Pairs

DTYPE = np.float16
WAITING = 32 << 20
"""Bytes that wait in memory, at most."""


def schema(size: int) -> pa.Schema:
    """Of a table of latents with `size` numbers each."""
    return pa.schema(
        [
            pa.field("artifact_id", pa.string()),
            pa.field("owner", pa.string()),
            pa.field("episode_id", pa.string()),
            pa.field("step", pa.int32()),
            pa.field("latent", pa.list_(pa.float16(), size)),
        ]
    )


def rows_of(
    artifact_id: str, owner: str, episode_id: str, steps: range, latents: np.ndarray, *, where: str
) -> pa.Table:
    """Rows of an episode's latents (T', C, V*h, w) float16, one for each of its frames, which are of these steps.
    Raises VlawError for others."""
    count = len(steps)
    if latents.ndim != 4 or latents.dtype != DTYPE or len(latents) != count or not np.isfinite(latents).all():
        raise VlawError(
            f"latents {latents.shape} {latents.dtype} of {count} frames, or not finite",
            where=f"{where}, episode {episode_id}",
            remedy="the autoencoder is damaged, or was made for other frames",
        )
    size = int(np.prod(latents.shape[1:]))
    flat = pa.array(np.ascontiguousarray(latents).reshape(-1), pa.float16())
    return pa.table(
        {
            "artifact_id": [artifact_id] * count,
            "owner": [owner] * count,
            "episode_id": [episode_id] * count,
            "step": np.asarray(steps, np.int32),
            "latent": pa.FixedSizeListArray.from_arrays(flat, size),
        },
        schema=schema(size),
    )


def of_model(entry: Mapping[str, Any] | None, model: str) -> bool:
    """Whether what the ledger says of an artifact's latents is of the autoencoder of this content digest."""
    return entry is not None and entry["table"] == table_name(model)


class LatentWriter:
    """Latents of a draft on their way to the disk, which they reach a few episodes at a time."""

    def __init__(self, paths: Paths):
        self._paths = paths
        self._table: ModelTable | None = None
        self._made: tuple[str, tuple[int, ...]] = ("", ())
        """The autoencoder, and the shape of each latent."""
        self._waiting: list[pa.Table] = []

    def add(
        self,
        artifact_id: str,
        model: str,
        owner: str,
        episode_id: str,
        steps: range,
        latents: np.ndarray,
        *,
        where: str,
    ) -> None:
        """Raises VlawError for latents that do not fit the episode, or those before them."""
        rows = rows_of(artifact_id, owner, episode_id, steps, latents, where=where)
        made = model, latents.shape[1:]
        if self._table is None:
            self._table, self._made = ModelTable(self._paths, self._paths.latents, model, rows.schema, "latent"), made
        if made != self._made:
            raise VlawError(
                "latents of two autoencoders or two sizes in one artifact", where=where, remedy="make two artifacts"
            )
        self._waiting.append(rows)
        if sum(part.nbytes for part in self._waiting) > WAITING:
            self._flush()

    def commit(self, artifact_id: str) -> dict[str, Any] | None:
        """What the ledger says of them; None where there are none."""
        if self._table is None:
            return None
        self._flush()
        return self._table.commit(artifact_id) | {"shape": list(self._made[1])}

    def _flush(self) -> None:
        if self._table is not None and self._waiting:
            self._table.write(pa.concat_tables(self._waiting))
            self._waiting.clear()


class LanceLatents:
    """Latents of one artifact, read when they are asked for. Made by `Handle.latents`, which has verified the files."""

    portable = True

    def __init__(self, paths: Paths, entry: dict[str, Any], excluded: Collection[str] = ()):
        """`entry`: as the ledger has it; `excluded`: ids of episodes that it does not give. Raises VlawError for rows
        that are not there or not in order."""
        self._rows = LanceRows(paths.latents / f"{entry['table']}.lance", entry, "latents")
        self._shape = tuple(entry["shape"])
        places = {name: place for name, place in self._rows.places().items() if name not in excluded}
        self._index = {name: index for index, name in enumerate(places)}
        self._places = list(places.values())

    def __contains__(self, episode_id: str) -> bool:
        return episode_id in self._index

    def of(self, episode: Episode) -> Frames:
        """An episode's latents: (T', C, V*h, w) float16, read when indexed. Raises VlawError where it has none here."""
        index = self._index.get(episode.episode_id)
        if index is None or self._places[index].steps != len(episode.images):
            raise VlawError(
                "an episode has no latents, or others than its frames",
                where=f"episode {episode.episode_id}, {self._rows.uri}",
                remedy="materialize latents (of the foundation: corpus_latents) again",
            )
        return Frames(self, index, (len(episode.images), *self._shape), DTYPE)

    def take(self, pairs: Pairs) -> np.ndarray:
        """(N, C, V*h, w) float16, of (number of an episode, number of one of its frames)."""
        rows = np.array([self._places[index].begin + step for index, step in pairs])
        rows, back = np.unique(rows, return_inverse=True)
        out = np.empty((len(rows), *self._shape), DTYPE)
        for here, column in self._rows.take(rows, "latent"):
            out[here] = column.combine_chunks().flatten().to_numpy().reshape(len(here), *self._shape)
        return out[back]
