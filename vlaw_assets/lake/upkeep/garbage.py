"""Collecting what lies in a lake without a ledger row that needs it: leftovers of killed and failed runs.

Mark: everything that any ledger row names stays, superseded rows too, and nothing is deleted for its age. Sweep: a data
file is an orphan if none of its rows belongs to an artifact of the ledger; so are checkpoints that no row names and
temporary files of dead runs. What others left behind while compacting holds rows of artifacts and is theirs to clean.

What was never committed goes first, since that needs no place: `vlaw gc` works on a full disk.

Orphans are old: nothing younger than an age limit, or than the oldest draft still at work, is looked at. Rows are taken
out of the Delta or Lance table first, then the file goes, so that no reader of the tables meets a missing file, and a
crash in between leaves an orphan for the next time. (Versions of a table from before that, which no ledger row names,
lose the orphan's rows.) One collector at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake import deltalog, disk, pictures, replica
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.tables import tables_of
from vlaw_assets.lake.upkeep import garbage_in_bucket as in_bucket
from vlaw_assets.lake.upkeep.removal import (
    changed,
    forget_frames,
    forget_rows,
    newest_change,
    remove,
    remove_checkpoint,
    remove_drafts,
)
from vlaw_assets.lake.upkeep.verify import verify_ledger
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

DAY_S = 86400.0
AGE_S = 7 * DAY_S
TEMPORARY = (
    ".*.tmp",
    "pictures/.*.tmp",
    ".writable-*",
    ".trial-*",
    "delta/*/.*.tmp",
    "delta/*/_delta_log/_commit_*.tmp",
    "delta/*/_delta_log/*#*",
    "delta/**/*.parquet#*",
    "lance/**/*#*",
    "lance/**/.tmp*",
    "lance/**/*.tmp.*",
)
"""Files that writers rename when they are whole; what still has such a name was never finished."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that no ledger row names."""

    path: Path
    size: int
    """Bytes."""
    kind: str
    """'rows', 'frames', 'embeddings', 'latents', 'checkpoint', 'picture' or 'temporary'."""
    artifacts: tuple[str, ...] = ()
    """The dead artifacts whose rows it holds."""


def find_garbage(lake: Lake, *, older_than_s: float = DAY_S) -> list[Garbage]:
    """Data files, frames, vectors, latents, checkpoints and temporary files that no artifact consists of; nothing is
    changed.

    Args:
        older_than_s: leave out what changed since; it may belong to a run that has not committed yet.

    Raises VlawError if the ledger is damaged: what it does not tell must not be taken for garbage.
    """
    limit = _limit(lake.paths, older_than_s)
    return _find(lake.paths, _Marked(lake), limit)


def collect(lake: Lake, *, older_than_s: float = AGE_S) -> list[Garbage]:
    """Delete what `find_garbage` finds, and return it.

    Raises VlawError if somebody else is collecting or compacting, or if the ledger is damaged.
    """
    paths = lake.paths
    with FileLock(paths.collector_lock).hold("vlaw gc", wait_s=0.0, remedy="wait until it is done"):
        limit = _limit(paths, older_than_s)
        marked = _Marked(lake)
        found = _find(paths, marked, limit)
        freed: list[Garbage] = []
        aside = _aside(paths)
        try:
            # First what goes without writing anything: on a full disk that makes the place for the rest.
            for folder in _aside(paths):
                remove_drafts(paths, folder, limit)
            committed = {name: deltalog.live(paths.table(name)) if found else set() for name in tables_of(paths)}
            for item in found:
                named = any(item.path in files for files in committed.values())
                if item.kind in ("temporary", "rows") and not named and item.path not in aside:
                    remove(item.path)
                    freed.append(item)
            freed += [item for item in found if item.path in aside]
            for item in found:
                if item.kind in ("checkpoint", "picture"):
                    remove_checkpoint(paths, item.path, limit)
                    freed.append(item)
            for name in tables_of(paths):
                forget_rows(paths, name, [item for item in found if item.path in committed[name]])
            for uri in paths.lance_tables:
                if copy := replica.of(uri):
                    in_bucket.drop_fragments(
                        copy, uri, {item.path.name for item in found}, _dead_tags(uri, marked, limit)
                    )
                    continue
                dead = {artifact for item in found if item.path.is_relative_to(uri) for artifact in item.artifacts}
                forget_frames(paths, uri, dead, _dead_tags(uri, marked, limit))
            for item in found:
                if item not in freed:
                    remove(item.path)
            for folder in _aside(paths):  # and where checkpoints were moved to
                remove_drafts(paths, folder, limit)
        except Exception as error:
            if disk.cause(error) is None:
                raise
            size = sum(item.size for item in freed if not item.path.exists())
            raise disk.failure(
                error, f"{size:,} bytes were freed, then no more could be", where=str(paths.root), remedy="run it again"
            ) from error
        return found


def _find(paths: Paths, marked: _Marked, limit: float) -> list[Garbage]:
    if copy := replica.of(paths.root):
        in_bucket.bring(copy, paths, marked.needed, limit)
    found = [
        item for name in tables_of(paths) if name != "artifacts" for item in _delta_orphans(paths, name, marked, limit)
    ]
    for uri in paths.lance_tables:
        found += _lance_orphans(paths, uri, marked, limit)
    found += [
        Garbage(path, _size(path), "checkpoint")
        for path in sorted(paths.checkpoints.iterdir())
        if path not in marked.needed and changed(path) < limit
    ]
    found += [
        Garbage(path, _size(path), "picture")
        for path in sorted(paths.pictures.glob("[!.]*"))
        if path not in marked.needed and changed(path) < limit
    ]
    return sorted([*found, *_temporary(paths, limit)], key=lambda item: item.path)


class _Marked:
    """What the ledger needs, read anew and whole."""

    def __init__(self, lake: Lake):
        problems = verify_ledger(lake)
        if problems:
            raise VlawError(
                f"the ledger is damaged, so it cannot tell what is garbage: {problems[0]}",
                where=str(lake.paths.root),
                remedy="restore it first; `vlaw audit ... --verify` names what is damaged",
            )
        refs = type(lake)(lake.paths).ledger.artifacts()
        self.artifacts = {ref.artifact_id for ref in refs}
        self.needed: set[Path] = {lake.paths.root / ref.location for ref in refs if ref.location}
        for ref in refs:
            self.needed |= set(pictures.files(lake.paths, ref))
            for entry in ref.versions.values():
                self.needed |= {lake.paths.root / file["path"] for file in entry["files"]}


def _limit(paths: Paths, older_than_s: float) -> float:
    """Nothing that changed at or after this time is garbage yet."""
    if copy := replica.of(paths.root):
        return min([copy.bucket.now().timestamp() - older_than_s, *in_bucket.at_work(copy, but=paths.collector_lock)])
    begun = time.time()
    locks = [path for path in paths.locks.glob("*.lock") if path != paths.collector_lock]
    at_work = [since for since in (FileLock(path).held_since() for path in locks) if since is not None]
    return min([begun - older_than_s, *at_work])


def _delta_orphans(paths: Paths, name: str, marked: _Marked, limit: float) -> Iterator[Garbage]:
    table = paths.table(name)
    candidates = [
        path
        for path in sorted(table.rglob("*.parquet"))
        if "_delta_log" not in path.parts and path not in marked.needed and changed(path) < limit
    ]
    committed: set[Path] | None = None
    for path in candidates:
        ids = _ids_in_parquet(path)
        if ids is None:
            committed = deltalog.live(table) if committed is None else committed
            if path in committed:
                continue  # damaged rows of somebody: for `audit --verify`, not for a collector
        if not (ids or set()) & marked.artifacts:
            yield Garbage(path, _size(path), "rows", tuple(sorted(ids or ())))


def _lance_orphans(paths: Paths, uri: Path, marked: _Marked, limit: float) -> Iterator[Garbage]:
    import lance

    committed: set[str] | None = None
    for path in sorted((uri / "data").glob("*.lance")):
        if path in marked.needed or changed(path) >= limit:
            continue
        ids = _ids_in_lance(path)
        if ids is None:
            if committed is None:
                committed = {
                    file.path for item in lance.dataset(str(uri)).get_fragments() for file in item.metadata.files
                }
            if path.name in committed:
                continue
        if not (ids or set()) & marked.artifacts:
            kind = "frames" if uri == paths.frames else uri.parent.name
            yield Garbage(path, _size(path), kind, tuple(sorted(ids or ())))


def _temporary(paths: Paths, limit: float) -> Iterator[Garbage]:
    for folder in _aside(paths):
        free = FileLock(paths.lock_aside(folder)).held_since() is None
        if free and 0 < newest_change(folder) < limit:
            yield Garbage(folder, _size(folder), "temporary")
    for pattern in TEMPORARY:
        for path in sorted(paths.root.glob(pattern)):
            if path.is_file() and changed(path) < limit:
                yield Garbage(path, _size(path), "temporary")


def _aside(paths: Paths) -> list[Path]:
    """Folders of drafts, of imports and of trainings that are not committed."""
    others = [folder.iterdir() for folder in (paths.imports, paths.training) if folder.is_dir()]
    return sorted([*paths.temporary.iterdir(), *chain.from_iterable(others)])


def _dead_tags(uri: Path, marked: _Marked, limit: float) -> list[str]:
    prefix = "artifact-"
    return sorted(
        path.stem
        for path in (uri / "_refs" / "tags").glob(f"{prefix}*.json")
        if path.stem.removeprefix(prefix) not in marked.artifacts and changed(path) < limit
    )


def _ids_in_parquet(path: Path) -> set[str] | None:
    """Artifacts whose rows a Parquet file holds; None if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return set(pq.ParquetFile(path).read(["artifact_id"])["artifact_id"].unique().to_pylist())
    except (OSError, KeyError, pa.ArrowException) as error:
        disk.refuse_if_out_of_files(error)
        return None


def _ids_in_lance(path: Path) -> set[str] | None:
    """Artifacts whose rows a Lance file holds; None if it cannot be read."""
    from lance.file import LanceFileReader

    try:
        table = LanceFileReader(str(path), columns=["artifact_id"]).read_all().to_table()
        return set(table["artifact_id"].unique().to_pylist())
    except (OSError, ValueError, KeyError) as error:
        disk.refuse_if_out_of_files(error)
        return None


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(file.stat().st_size for file in files)
