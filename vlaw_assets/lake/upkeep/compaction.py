"""Compacting a lake: fewer and larger files for other readers of its tables. Nobody needs it; nothing changes by it.

What vlaw reads is pinned file by file in the ledger, as of now and as of any earlier moment, and the ledger's rows and
order come from the log entries that committed them. So whoever compacts (here, or by their own calls of
`DeltaTable.optimize.compact()`, Lance's `compact_files` and `cleanup_old_versions`) changes no answer, on three terms:

- never `vacuum` a Delta table: the files that were compacted are those that the ledger names. The tables are set to
  retain them for a hundred years; only `enforce_retention_duration=False` overrides that.
- leave Lance's tags alone: they keep the versions that the ledger names (`cleanup_old_versions` spares tagged ones).
- one at a time: compaction of Lance tables beside other maintenance has lost rows elsewhere.

Space is not freed: the small files stay, and the large ones come on top. Tables also get a checkpoint of their log
(delta_checkpoints.py), which those of a lake from before there were any have not got, and lose the bad ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake import delta_checkpoints, deltalog, replica
from vlaw_assets.lake.durable import FileLock, check_writable, fsync_files
from vlaw_assets.lake.lance_table import settled_hint
from vlaw_assets.lake.tables import tables_of
from vlaw_assets.lake.upkeep import delta_checks
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake


@dataclass(frozen=True)
class Compacted:
    """What was done to one table."""

    table: str
    """Its folder, relative to the lake."""
    before: int
    """Data files (fragments of Lance) of its newest version."""
    after: int
    checkpoint: int | None = None
    """The version that got a checkpoint; None if the newest has one, or for Lance."""
    dropped: tuple[str, ...] = ()
    """Checkpoint files, relative to the lake, that were damaged or did not say what the log says."""


def compact(lake: Lake, *, checkpoints_only: bool = False) -> list[Compacted]:
    """Compact every table, durably, give its log a checkpoint, and drop Lance versions without a tag.

    Args:
        checkpoints_only: leave all data as it is.

    Raises VlawError for the lake as of a moment, and while somebody else compacts or collects garbage.
    """
    if lake.moment is not None:
        raise VlawError(
            f"the lake as of {lake.moment} is for reading only", where=str(lake.paths.root), remedy="leave --as-of out"
        )
    if replica.of(lake.paths.root) is not None:
        raise VlawError(
            "a lake on an object store is not compacted yet",
            where=str(lake.paths.root),
            remedy="its answers do not need it; a copy in a folder can be compacted",
        )
    check_writable(lake.paths.root, remedy="see that you may write there, and that the disk has space")
    lake.ledger.artifacts()  # a ledger that has lost something is mended first
    with FileLock(lake.paths.collector_lock).hold("compaction", wait_s=0.0, remedy="wait until it is done"):
        done = [_delta(lake, name, data=not checkpoints_only) for name in tables_of(lake.paths)]
        for uri in lake.paths.lance_tables:
            if checkpoints_only:
                settled_hint(uri)
            else:
                done.append(_lance(lake, uri))
        return done


def _delta(lake: Lake, name: str, *, data: bool) -> Compacted:
    from deltalake import DeltaTable, PostCommitHookProperties
    from deltalake.exceptions import DeltaError

    table, paths = lake.paths.table(name), lake.paths
    newest = deltalog.newest(table)
    try:
        dropped = delta_checks.mend(paths, name)  # first: delta-rs takes a checkpoint for the log before it
        before = after = len(deltalog.live(table))
        if data:
            DeltaTable(str(table)).optimize.compact(
                post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
            )
            for entry in deltalog.entries(table, after=newest):
                fsync_files([*entry.added, entry.path], root=paths.root, missing_ok=True)
            after = len(deltalog.live(table))
        made = delta_checkpoints.complete(paths, name)
    except (OSError, DeltaError) as error:
        raise VlawError(
            f"Delta table {name} cannot be compacted: {error}",
            where=str(table),
            remedy="see that the disk has space and works; `vlaw audit --all --verify` names what is damaged",
        ) from error
    return Compacted(paths.relative(table), before, after, made, tuple(map(paths.relative, dropped)))


def _lance(lake: Lake, uri: Path) -> Compacted:
    import lance

    try:
        dataset = lance.dataset(str(uri))
        before = len(dataset.get_fragments())
        dataset.optimize.compact_files()
        files = [
            *(uri / "data").glob("*.lance"),
            *(uri / "_versions").glob("*.manifest"),
            *(uri / "_transactions").glob("*"),
        ]
        fsync_files([*files, settled_hint(uri)], root=lake.paths.root, missing_ok=True)
        dataset.cleanup_old_versions(older_than=timedelta(0), error_if_tagged_old_versions=False)
        after = len(lance.dataset(str(uri)).get_fragments())
    except (OSError, ValueError) as error:
        raise VlawError(
            f"Lance table {uri.stem} cannot be compacted: {error}",
            where=str(uri),
            remedy="see that the disk has space and works; `vlaw audit --all --verify` names what is damaged",
        ) from error
    return Compacted(lake.paths.relative(uri), before, after)
