"""Compacting a lake: fewer and larger files for other readers of its tables. Nobody needs it; nothing changes by it.

What vlaw reads is pinned file by file in the ledger, as of now and as of any earlier moment, and the ledger's rows and
order come from the log entries that committed them. So whoever compacts (here, or by their own calls of
`DeltaTable.optimize.compact()`, Lance's `compact_files` and `cleanup_old_versions`) changes no answer, on three terms:

- never `vacuum` a Delta table: the files that were compacted are those that the ledger names. The tables are set to
  retain them for a hundred years; only `enforce_retention_duration=False` overrides that.
- leave Lance's tags alone: they keep the versions that the ledger names (`cleanup_old_versions` spares tagged ones).
- one at a time: compaction of Lance tables beside other maintenance has lost rows elsewhere.

Space is not freed: the small files stay, and the large ones come on top.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from vlaw_assets.lake import deltalog
from vlaw_assets.lake.durable import FileLock, fsync_files
from vlaw_assets.lake.schemas import TABLES

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake


def compact(lake: Lake) -> None:
    """Compact every table, durably, and drop Lance versions without a tag.

    Raises VlawError while somebody else compacts or collects garbage.
    """
    with FileLock(lake.paths.collector_lock).hold("compaction", wait_s=0.0, remedy="wait until it is done"):
        for name in TABLES:
            _compact_delta(lake, name)
        for uri in [lake.paths.frames, *sorted(lake.paths.embeddings.glob("*.lance"))]:
            import lance

            dataset = lance.dataset(str(uri))
            dataset.optimize.compact_files()
            files = [*(uri / "data").glob("*.lance"), *(uri / "_versions").glob("*.manifest"), *(uri / "_transactions").glob("*")]
            fsync_files(files, root=lake.paths.root, missing_ok=True)
            dataset.cleanup_old_versions(older_than=timedelta(0), error_if_tagged_old_versions=False)


def _compact_delta(lake: Lake, name: str) -> None:
    from deltalake import DeltaTable, PostCommitHookProperties

    table = lake.paths.table(name)
    before = deltalog.newest(table)
    DeltaTable(str(table)).optimize.compact(
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
    )
    for entry in deltalog.entries(table, after=before):
        fsync_files([*entry.added, entry.path], root=lake.paths.root, missing_ok=True)
