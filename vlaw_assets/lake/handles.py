"""A read handle: the data of one artifact, exactly as the ledger pinned it.

A handle made by a draft leaves quarantined episodes out of every table, gives episodes the success that people said
they have, and remembers which episodes it gave away: the draft writes that down as the edge's selection. Frames have no
door of their own: they come with their episodes, at once (`episodes`) or when they are asked for (`source`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlaw_assets.lake import checkpoints, embeddings, frames
from vlaw_assets.lake.decisions import withheld
from vlaw_assets.lake.durable import file_problems
from vlaw_assets.lake.labels import labelled
from vlaw_assets.lake.latents import LanceLatents
from vlaw_assets.lake.schemas import ORDER
from vlaw_assets.lake.source import LanceEpisodes
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.lake.artifact import ArtifactRef


class Handle:
    """Made by `Draft.read` (recorded as an edge) or `Lake.read` (looking only)."""

    def __init__(
        self,
        lake: Lake,
        ref: ArtifactRef,
        *,
        excluded: Iterable[str] = (),
        labels: Mapping[str, bool | None] | None = None,
    ):
        self._lake = lake
        self.ref = lake.ledger.get(ref.owner)
        """The artifact that holds the data; for a pointer, what it points at."""
        self._verified: set[str] = set()
        self._excluded = tuple(excluded)
        self.labels = labels or {}
        """Episode id -> success, of the episodes of any artifact that people judged otherwise; None where it is for
        world models alone."""
        self._whole = False
        self._given: set[str] | None = None
        self._members: pa.Table | None = None

    def given(self) -> set[str] | None:
        """Ids of the episodes given away by `episodes()`, when that was the only way in; None when any other way was
        used (a table, the checkpoint: they stand on every episode) or none at all."""
        return None if self._whole else self._given

    def note(self, episode_ids: Iterable[str]) -> None:
        """Remember these as given away by `episodes()`: for a caller that knows its episodes without loading them."""
        self._given = (self._given or set()) | set(episode_ids)

    def weighted(self, owner: str) -> set[str]:
        """Ids of the members of this dataset that `owner` holds and that weigh more than nothing."""
        if self._members is None:  # asked once per owner, and there are as many owners as iterations
            table = self._table("members")
            kept = table.filter(pc.greater(table["weight"], 0.0)).select(["owner", "episode_id"]).sort_by("owner")
            self._members = kept.group_by("owner", use_threads=False).aggregate([("episode_id", "list")])
        found = self._members.filter(pc.equal(self._members["owner"], owner))["episode_id_list"]
        return set(pc.list_flatten(found).to_pylist())

    def available(self) -> set[str]:
        """Ids of all episodes that this handle could give away: the artifact's own, without the excluded ones."""
        return set(self._table("episodes", ("episode_id", "start_episode_id"))["episode_id"].to_pylist())

    @property
    def left_out(self) -> int:
        """How many of the artifact's own episodes this handle leaves out."""
        held = self.ref.versions.get("episodes")
        return held["rows"] - len(self.available()) if held and self._excluded else 0

    @property
    def corrected(self) -> int:
        """Of how many of the artifact's own episodes people say otherwise than it does."""
        if not self.labels:
            return 0
        table = self._stored("episodes", ("episode_id", "start_episode_id", "success", "extra_json"))
        said, stored = labelled(table, self.labels)["success"], withheld(table)
        return sum(a != b for a, b in zip(said.to_pylist(), stored.to_pylist(), strict=True))

    def checkpoint(self) -> Path:
        """The checkpoint folder, after re-hashing every file. Raises VlawError naming what is missing or changed."""
        if not self.ref.location:
            raise VlawError(f"{self.ref.name} has no checkpoint", where=self.ref.artifact_id, remedy="read its tables")
        self._whole = True
        return checkpoints.verified(self._lake.paths.root / self.ref.location)

    def table(self, name: str) -> pa.Table:
        """The rows of one data table that this artifact owns, in the order written; empty if it wrote none."""
        if name not in ORDER:
            raise VlawError(f"no data table {name!r}", where=self.ref.name, remedy=f"one of {', '.join(ORDER)}")
        self._whole = True
        return self._table(name)

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of all rows of a data table, some rows at a time, in no particular order: for what need not be
        in memory at once. Rows of excluded episodes are among them."""
        self._whole = True
        self._verify(name)
        yield from self._lake.tables.batches(self.ref.versions.get(name), columns)

    def problems(self, *, deep: bool = True) -> list[str]:
        """What is missing or changed among the files of this artifact, one line each. Not `deep`: sizes only."""
        root = self._lake.paths.root
        entries = [file for entry in self.ref.versions.values() for file in entry["files"]]
        found = file_problems(root, entries, deep=deep)
        if not self.ref.location:
            return found
        folder = root / self.ref.location
        if deep:
            return found + [f"{self.ref.location}/{line}" for line in checkpoints.problems(folder)]
        return found if checkpoints.is_there(folder) else [*found, f"{self.ref.location}: missing"]

    def embeddings(self) -> pa.Table:
        """Vectors and the episodes they belong to (see embeddings.py), in the order written; empty if it wrote none."""
        self._whole = True
        self._verify("embeddings")
        return embeddings.read(self._lake.paths, self.ref.versions.get("embeddings"))

    def latents(self, among: Iterable[str] | None = None) -> LanceLatents | None:
        """Latents of episodes, other artifacts' or its own, by episode; None where it holds none.

        Args:
            among: the ones that are read, ids; None: all.
        """
        if among is None:
            self._whole = True
        else:
            self.note(among)
        self._verify("latents")
        entry = self.ref.versions.get("latents")
        return LanceLatents(self._lake.paths, entry, self._excluded) if entry else None

    def members(self) -> pa.Table:
        """The episodes of this dataset: episode_id, owner, weight, source, in the order written."""
        return self.table("members")

    def episodes(
        self,
        *,
        frames: bool = True,
        tasks: Iterable[str] | None = None,
        success: bool | None = None,
        judged: bool = False,
        steps: Iterable[int] | None = None,
        episode_ids: Iterable[str] | None = None,
    ) -> list[Episode]:
        """This artifact's episodes by episode_index.

        Args:
            frames: False leaves images empty, (0, V, height, width, 3).
            tasks, success, episode_ids: only these.
            judged: only those with an outcome: the others are for world models alone.
            steps: load only the frames of these steps (states and actions stay whole).
        """
        rows = self._table("episodes").to_pylist()
        tasks, chosen = _set(tasks), _set(episode_ids)
        rows = [
            row
            for row in rows
            if (tasks is None or row["task"] in tasks)
            and (success is None or row["success"] is success)
            and not (judged and row["success"] is None)
            and (chosen is None or row["episode_id"] in chosen)
        ]
        self.note(row["episode_id"] for row in rows)
        images = self._images([row["episode_id"] for row in rows], steps) if frames else {}
        trajectories = self._trajectories()
        return [episode_of(row, images.get(row["episode_id"]), *trajectories[row["episode_id"]]) for row in rows]

    def source(
        self,
        *,
        tasks: Iterable[str] | None = None,
        success: bool | None = None,
        judged: bool = False,
        episode_ids: Iterable[str] | None = None,
    ) -> LanceEpisodes:
        """The episodes that `episodes` gives, with frames that are read when they are asked for. Raises VlawError."""
        episodes = self.episodes(frames=False, tasks=tasks, success=success, judged=judged, episode_ids=episode_ids)
        self._verify("frames")
        return LanceEpisodes(self._lake.paths, self.ref.versions.get("frames"), episodes)

    def _table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        if name != "episodes" or (columns is not None and "success" not in columns):
            return self._stored(name, columns)
        table = labelled(self._stored(name, columns and {*columns, "extra_json"}), self.labels)
        return table if columns is None else table.select(list(columns))

    def _stored(self, name: str, columns: Collection[str] | None) -> pa.Table:
        """The rows as they were written, without the excluded ones."""
        self._verify(name)
        table = self._lake.tables.read(name, self.ref.versions.get(name), columns)
        if not self._excluded:
            return table
        excluded = pa.array(self._excluded, pa.string())
        for column in {"episode_id", "start_episode_id"} & set(table.column_names):
            table = table.filter(pc.invert(pc.is_in(table[column], excluded)))  # null is in no list of ids: it stays
        return table

    def _verify(self, name: str) -> None:
        """Re-hash the files behind one table, once per handle: neither Delta nor Lance notices a flipped bit."""
        entry = self.ref.versions.get(name)
        if entry is None or name in self._verified:
            return
        found = file_problems(self._lake.paths.root, entry["files"])
        if found:
            raise VlawError(
                f"data of {self.ref.name} is damaged: {'; '.join(found)}",
                where=str(self._lake.paths.root),
                remedy="restore the files, or materialize it again with force",
            )
        self._verified.add(name)

    def _images(self, ids: list[str], steps: Iterable[int] | None) -> dict[str, np.ndarray]:
        self._verify("frames")
        return frames.read(self._lake.paths, self.ref.versions.get("frames"), ids, steps)

    def _trajectories(self) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
        """{episode_id: (states (T+1, D), actions (T, A), control_hz)}."""
        table = self._table("steps", ("episode_id", "step", "timestamp", "state", "action"))
        table = table.sort_by(ORDER["steps"]).combine_chunks()
        if not table.num_rows:
            return {}
        ids = np.asarray(table["episode_id"].to_numpy(zero_copy_only=False))
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        states, actions = table["state"].combine_chunks(), table["action"].combine_chunks()
        times = table["timestamp"].to_numpy()
        out = {}
        for start, end in pairwise([*starts.tolist(), len(ids)]):
            count = end - start
            # The last step's time is the longest known, so its rounding is the smallest.
            control_hz = round((count - 1) / times[end - 1], 6) if count > 1 else 1.0
            out[str(ids[start])] = _matrix(states, start, count), _matrix(actions, start, count - 1), control_hz
        return out


def _matrix(column: pa.Array, start: int, count: int) -> np.ndarray:
    values = column.slice(start, count).flatten().to_numpy(zero_copy_only=False)
    return values.reshape(count, -1).astype(np.float32) if count else np.zeros((0, 0), np.float32)


def episode_of(
    row: dict[str, Any], images: np.ndarray | None, states: np.ndarray, actions: np.ndarray, control_hz: float
) -> Episode:
    """The episode of a row of the table `episodes`; without images it has none, (0, V, height, width, 3)."""
    if images is None:
        images = np.zeros((0, len(row["cameras"]), row["height"], row["width"], 3), np.uint8)
    return Episode(
        task=row["task"],
        instruction=row["instruction"],
        seed=row["seed"],
        images=images,
        states=states,
        actions=actions,
        success=row["success"],
        event=row["event"],
        nearness=row["nearness"],
        start_episode_id=row["start_episode_id"],
        episode_id=row["episode_id"],
        cameras=tuple(row["cameras"]),
        control_hz=control_hz,
        extra=json.loads(row["extra_json"]),
    )


def _set(values: Iterable[str] | None) -> set[str] | None:
    return None if values is None else set(values)
