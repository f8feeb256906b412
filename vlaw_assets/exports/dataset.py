"""Episodes of a lake as plain Parquet files: what a dataset for others consists of.

Files of the lake itself are no such thing: Delta keeps two of the columns in the names of folders, a file is replaced
when tables are compacted, and holds what is in quarantine now. Success here is by the labels in force, as SQL shows it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlaw_assets.lake import decisions, disk, labels, quarantine
from vlaw_assets.lake.durable import sha256_file
from vlaw_assets.lake.lance_table import fragments_of
from vlaw_assets.lake.lookup import connected, files_of
from vlaw_assets.lake.rules import WORLD_MODEL_ONLY
from vlaw_assets.lake.schemas import EPISODES, FRAMES, MEMBERS, STEPS
from vlaw_assets.query import views
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

ROWS, PICTURES = 1 << 16, 1024
"""Rows of a table, and pictures, that are written together."""
GIVEN = [pa.field("recorded", pa.bool_()), pa.field("label", pa.string())]
"""Columns of episodes that labels add."""
MEMBER = [MEMBERS.field(name) for name in ("weight", "source")]
"""Columns of episodes that a training set adds."""


@dataclass(frozen=True)
class Chosen:
    """Which episodes are exported."""

    name: str
    about: str
    """One sentence."""
    holders: tuple[ArtifactRef, ...]
    """The artifacts that hold them."""
    ref: ArtifactRef | None = None
    """The artifact that was asked for; None for the lake."""
    members: pa.Table | None = None
    """(owner, episode_id, weight, source) of those that belong to it; None: all."""


@dataclass(frozen=True)
class Table:
    """A file that was written."""

    name: str
    file: str
    """Its name."""
    schema: pa.Schema
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Written:
    """What is known of a dataset once its files are there."""

    tables: tuple[Table, ...]
    counts: Mapping[tuple[str, str, str], int]
    """(purpose, world, label_source) -> episodes."""
    labelled: int
    """Episodes that people labelled."""
    left_out: int
    """Episodes that are in quarantine."""
    unique: bool
    """Whether an id names one episode: it may be held by several artifacts."""


def choose(lake: Lake, ref: ArtifactRef | None) -> Chosen:
    """The members of a training set, the episodes that another artifact holds, or all that are current in the lake.

    VlawError for an artifact without episodes.
    """
    if ref is None:
        current = [found for found in lake.ledger.artifacts() if _is_current(lake, found)]
        owners = dict.fromkeys(found.owner for found in current if "episodes" in found.versions)
        holders = tuple(lake.ledger.get(owner) for owner in owners)
        if not holders:
            raise VlawError("the lake holds no episodes", where=str(lake.paths.root), remedy="Make some: vlaw run.")
        return Chosen("vlaw", "All current episodes of a lake of vlaw.", holders)
    name = ref.name.replace("[", " ").replace("|", " ").rstrip("]")
    owner = lake.ledger.get(ref.owner)
    if "episodes" in owner.versions:
        return Chosen(name, f"The episodes that {ref.name} holds.", (owner,), ref)
    if "members" not in owner.versions:
        raise VlawError(
            f"{ref.name} holds no episodes",
            where="vlaw export croissant",
            remedy="Name rollouts, demonstrations, an evaluation or a training set, as in: training_set vlaw 2.",
        )
    columns = ["owner", "episode_id", *(field.name for field in MEMBER)]
    with connected(os.getpid()) as connection:
        listed = ", ".join(map(views.quoted, files_of(lake, "members", [owner])))
        members = connection.sql(
            f"SELECT {', '.join(columns)} FROM read_parquet([{listed}], hive_partitioning = false) ORDER BY position"
        ).to_arrow_table()
    holders = tuple(lake.ledger.get(holder) for holder in dict.fromkeys(members["owner"].to_pylist()))
    return Chosen(name, f"The members of the training set {ref.name}.", holders, ref, members)


def _is_current(lake: Lake, ref: ArtifactRef) -> bool:
    current = lake.ledger.current(ref.asset, ref.partition)
    return current is not None and current.artifact_id == ref.artifact_id


def write(lake: Lake, chosen: Chosen, folder: Path, *, frames: bool) -> Written:
    """Writes episodes.parquet and steps.parquet into the folder, and frames.parquet if wanted.

    Every file that is read is verified; VlawError for one that is gone or not as it was recorded.
    """
    apart = quarantine.in_force(lake)
    counts: Counter[tuple[str, str, str]] = Counter()
    keys: dict[str, list[str]] = {holder.artifact_id: [] for holder in chosen.holders}
    labelled = 0
    schema = pa.schema([*EPISODES, *GIVEN, *(MEMBER if chosen.members is not None else [])])

    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal labelled
        for batch in batches:
            columns = [batch[name].to_pylist() for name in ("purpose", "world", "label_source")]
            counts.update((str(of), str(world or ""), str(by)) for of, world, by in zip(*columns, strict=True))
            labelled += len(batch) - batch["label"].null_count
            for holder, name in zip(batch["artifact_id"].to_pylist(), batch["episode_id"].to_pylist(), strict=True):
                keys[holder].append(name)
            yield batch

    tables = [_table("episodes", folder, schema, told(_episodes(lake, chosen, list(apart), schema)))]
    names = [name for listed in keys.values() for name in listed]
    tables.append(_table("steps", folder, STEPS, _steps(lake, chosen, keys)))
    if frames:
        tables.append(_table("frames", folder, FRAMES, _frames(lake, chosen, keys)))
    held = set(names)
    left_out = len(_wanted(lake, chosen, apart) - held)
    return Written(tuple(tables), counts, labelled, left_out, len(held) == len(names))


def _table(name: str, folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
    path, rows = folder / f"{name}.parquet", 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += len(batch)
    return Table(name, path.name, schema, rows, path.stat().st_size, sha256_file(path))


def _episodes(lake: Lake, chosen: Chosen, apart: list[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    joined = (
        "" if chosen.members is None else "JOIN members m ON m.owner = e.artifact_id AND m.episode_id = e.episode_id"
    )
    columns = {name: f"e.{name}" for name in EPISODES.names} | {
        "success": f"CASE WHEN coalesce(d.label = '{WORLD_MODEL_ONLY}', {decisions.IN_SQL}) THEN NULL "
        "ELSE coalesce(l.label = 'success', e.success) END",
        "recorded": "e.success",
        "label": "l.label",
        "weight": "m.weight",
        "source": "m.source",
    }
    selected = ", ".join(f"{columns[name]} AS {name}" for name in schema.names)
    given = {
        "labels": views.labels_table(labels.in_force(lake)),
        "decisions": views.labels_table(labels.decisions(lake)),
        "apart": pa.table({"episode_id": pa.array(apart, pa.string())}),
    }
    if chosen.members is not None:
        given["members"] = chosen.members
    for holder in chosen.holders:
        yield from _read(
            f"SELECT {selected} FROM ({episodes_of(lake, holder)}) e {joined if chosen.members else ''} "
            "LEFT JOIN labels l ON l.episode_id = e.episode_id "
            "LEFT JOIN decisions d ON d.episode_id = e.episode_id "
            "WHERE e.episode_id NOT IN (SELECT episode_id FROM apart) ORDER BY e.episode_index",
            given,
            schema,
        )


def _steps(lake: Lake, chosen: Chosen, keys: Mapping[str, list[str]]) -> Iterator[pa.RecordBatch]:
    for holder in chosen.holders:
        if "steps" in holder.versions:
            wanted = pa.table({"id": pa.array(keys[holder.artifact_id], pa.string())})
            yield from _read(
                f"SELECT {', '.join(STEPS.names)} FROM {_source(lake, 'steps', holder)} "
                "WHERE episode_id IN (SELECT id FROM wanted) ORDER BY episode_id, step",
                {"wanted": wanted},
                STEPS,
            )


def _frames(lake: Lake, chosen: Chosen, keys: Mapping[str, list[str]]) -> Iterator[pa.RecordBatch]:
    for holder in chosen.holders:
        if entry := holder.versions.get("frames"):
            if wrong := lake.verified.damage((holder, file) for file in entry["files"]):
                raise wrong
            wanted = pa.array(keys[holder.artifact_id], pa.string())
            try:
                dataset, fragments = fragments_of(lake.paths.frames, entry)
                for batch in dataset.scanner(
                    columns=FRAMES.names, fragments=fragments, scan_in_order=True, batch_size=PICTURES
                ).to_batches():
                    yield batch.filter(pc.is_in(batch["episode_id"], wanted))
            except (OSError, ValueError) as error:
                disk.refuse_if_out_of_files(error)
                raise VlawError(
                    f"frames cannot be read: {error}",
                    where=str(lake.paths.frames),
                    remedy="`vlaw audit ... --verify` names the files; restore them",
                ) from error


def _wanted(lake: Lake, chosen: Chosen, apart: Iterable[str]) -> set[str]:
    """Ids of those in quarantine that would have been written."""
    given = {"apart": pa.table({"id": pa.array(list(apart), pa.string())})}
    found: set[str] = set()
    for holder in chosen.holders if given["apart"].num_rows else ():
        sql = f"SELECT episode_id FROM {_source(lake, 'episodes', holder)} WHERE episode_id IN (SELECT id FROM apart)"
        for batch in _read(sql, given, pa.schema([EPISODES.field("episode_id")])):
            found |= set(batch["episode_id"].to_pylist())
    return found if chosen.members is None else found & set(chosen.members["episode_id"].to_pylist())


def episodes_of(lake: Lake, holder: ArtifactRef) -> str:
    return views.select("episodes", files_of(lake, "episodes", [holder]), views.lacking(lake, "episodes"))


def _source(lake: Lake, table: str, holder: ArtifactRef) -> str:
    return f"read_parquet([{', '.join(map(views.quoted, files_of(lake, table, [holder])))}], {views.HIVE})"


def _read(sql: str, given: Mapping[str, pa.Table], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a statement over the lake's files and the tables `given`, in the columns of the schema."""
    with connected(os.getpid()) as connection:
        for name, table in given.items():
            connection.register(name, table)
        found: pa.Table = connection.sql(sql).to_arrow_table()
    # In pieces of one size, whatever DuckDB gives: the same rows give the same file.
    yield from found.cast(schema).combine_chunks().to_batches(max_chunksize=ROWS)
