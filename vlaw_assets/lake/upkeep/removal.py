"""Taking out of a lake what `garbage` has found, step by step: each leaves a lake that every reader can read.

Of a lake in a bucket the object goes before the copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake import checkpoints, delta_checkpoints, deltalog, replica
from vlaw_assets.lake.durable import FileLock, fsync_files
from vlaw_assets.lake.lance_table import settled_hint
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.upkeep import delta_checks
from vlaw_assets.lake.upkeep import garbage_in_bucket as in_bucket

if TYPE_CHECKING:
    from vlaw_assets.lake.upkeep.garbage import Garbage

IDS_AT_ONCE = 200


def remove_drafts(paths: Paths, folder: Path, limit: float) -> None:
    """Remove the drafts of a partition, what an import has read or the state of a training, unless somebody is at it;
    none begins while its lock is held."""
    lock = FileLock(paths.lock_aside(folder), shared=False)  # the folder is of this host
    if lock.acquire(holder="vlaw gc"):
        try:
            if newest_change(folder) < limit:
                shutil.rmtree(folder)
        finally:
            lock.release()


def forget_rows(paths: Paths, name: str, found: Iterable[Garbage]) -> None:
    """Take the rows of orphans out of a Delta table, durably: a commit that other readers understand."""
    table = paths.table(name)
    before = deltalog.newest(table)
    ids = sorted({artifact for item in found for artifact in item.artifacts})
    if ids:
        delta_checks.mend(paths, name)
    for first in range(0, len(ids), IDS_AT_ONCE):
        listed = ", ".join(f"'{artifact}'" for artifact in ids[first : first + IDS_AT_ONCE])
        condition = f"artifact_id IN ({listed})"
        if copy := replica.of(table):
            in_bucket.delete_rows(copy, table, condition, _delete)
        else:
            _delete(table, condition)
    if ids:
        newest = deltalog.read_entry(table, deltalog.newest(table))
        fsync_files([*newest.added, newest.path], root=paths.root)
        delta_checkpoints.after(paths, name, newest.version, before=before)


def _delete(table: Path, condition: str) -> None:
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties

    DeltaTable(str(table)).delete(
        condition,
        commit_properties=CommitProperties(custom_metadata={"vlaw.gc": "orphans"}),
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )


def forget_frames(paths: Paths, uri: Path, dead: set[str], tags: list[str]) -> None:
    """Take the rows of orphans out of a Lance table, durably, then the tags that kept their versions."""
    import lance

    dataset = lance.dataset(str(uri))
    ids = sorted(dead)
    for first in range(0, len(ids), IDS_AT_ONCE):
        listed = ", ".join(f"'{artifact}'" for artifact in ids[first : first + IDS_AT_ONCE])
        if dataset.count_rows(f"artifact_id IN ({listed})"):
            dataset.delete(f"artifact_id IN ({listed})")
            written = [
                uri / "_versions" / f"{2**64 - 1 - dataset.version:020d}.manifest",
                *(uri / "_transactions").glob("*.txn"),
                *(uri / "_deletions").glob("*"),
                settled_hint(uri),
            ]
            fsync_files(written, root=paths.root, missing_ok=True)
    for tag in tags:
        dataset.tags.delete(tag)


def remove_checkpoint(paths: Paths, path: Path, limit: float) -> None:
    """Move it (or a picture, which comes and goes alike) away at once, so that it is never there in part; unless a
    draft has found a use for it meanwhile."""
    grave = paths.temporary / "collected" / path.name
    grave.parent.mkdir(parents=True, exist_ok=True)
    with checkpoints.exclusive(paths.checkpoints):
        if changed(path) >= limit:
            return
        if copy := replica.of(path):
            if (copy.changed(path) or 0.0) >= limit:
                return
            copy.forget(path)
        path.rename(grave)
    remove(grave)


def remove(path: Path) -> None:
    if copy := replica.of(path):
        copy.forget(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def newest_change(folder: Path) -> float:
    """When a file below the folder changed last; 0 without files."""
    return max((changed(path) for path in folder.rglob("*") if path.is_file()), default=0.0)


def changed(path: Path) -> float:
    """When a file or folder changed (seconds since the epoch)."""
    return path.stat().st_mtime
