"""The Delta tables of a lake: creation, appends, and reads of exactly the files an artifact wrote.

Every append belongs to one artifact, so the ledger can name its files one by one, with size and sha256. Reading those
files (and not a table version filtered by artifact) makes reads independent of other artifacts: no leftover of a
killed run and no damaged file of somebody else can get in the way. The tables stay ordinary Delta tables for any
other reader, who must then filter by the artifact ids in `artifacts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.lake.durable import fsync_files, sha256_file
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import ORDER, PARTITIONED, TABLES
from vlaw_models.errors import VlawError

KEEP_FOREVER = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 5200 weeks",
    "delta.deletedFileRetentionDuration": "interval 5200 weeks",
}
"""Delta's defaults delete log entries after 30 days; an audit wants all of them."""

UNFLUSHED = 32
"""How many of the newest log entries other runs may have written and not flushed yet (one per run at work)."""

COMMIT_RETRIES = 100
"""Appends never conflict; a retry only means that somebody else's append got the next version number first."""


class Tables:
    """The Delta tables under `<lake>/delta`."""

    def __init__(self, paths: Paths):
        self._paths = paths
        self._open: dict[str, Any] = {}
        self._durable: dict[str, int] = {}
        """Newest log version of each table that this process knows to be on the disk."""

    def create(self) -> None:
        """Create the tables that are missing. Call under the lake's lock: two creators would race."""
        from deltalake import DeltaTable

        for name, schema in TABLES.items():
            DeltaTable.create(
                str(self._paths.table(name)),
                schema=schema,
                mode="ignore",
                name=name,
                partition_by=["asset", "partition_key"] if name in PARTITIONED else None,
                configuration=KEEP_FOREVER,
            )
            log = self._paths.table(name) / "_delta_log"
            fsync_files(sorted(log.glob("*.json")), root=self._paths.root)

    def append(self, name: str, rows: pa.Table, *, artifact_id: str) -> dict[str, Any]:
        """Append the rows of one artifact, durably. Returns {"version", "rows", "files": [{path, size, sha256}]}.

        On return the files, the log entry and the folders have reached the disk.
        """
        table, files = self.write(name, rows, artifact_id=artifact_id)
        return {"version": table.version(), "rows": rows.num_rows, "files": [self._describe(path) for path in files]}

    def write(
        self, name: str, rows: pa.Table, *, artifact_id: str, metadata: dict[str, str] | None = None
    ) -> tuple[Any, list[Path]]:
        """Append, fsync, and return the advanced DeltaTable and the data files written."""
        from deltalake import CommitProperties, PostCommitHookProperties, write_deltalake

        table = self.open(name)
        before = self._durable.get(name, max(-1, table.version() - UNFLUSHED))
        write_deltalake(
            table,
            rows,
            mode="append",
            commit_properties=CommitProperties(
                custom_metadata={"vlaw.artifact_id": artifact_id, **(metadata or {})}, max_commit_retries=COMMIT_RETRIES
            ),
            # No log checkpoints: one torn by a power cut makes the table unreadable, while the JSON log alone opens at
            # about 0.2 ms per commit.
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
        files = self._files_of(table, name, artifact_id)
        log = self._paths.table(name) / "_delta_log"
        # A version is durable only if every version before it is; those of runs that were writing beside us may not be.
        versions = (log / f"{version:020d}.json" for version in range(before + 1, table.version() + 1))
        fsync_files([*files, *versions], root=self._paths.root)
        self._durable[name] = table.version()
        return table, files

    def open(self, name: str) -> Any:
        """The DeltaTable at its newest version. Raises VlawError if the table is missing or its log unreadable."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        path = self._paths.table(name)
        try:
            if name in self._open:
                self._open[name].update_incremental()
            else:
                self._open[name] = DeltaTable(str(path))
        except (DeltaError, OSError) as error:
            raise VlawError(
                f"Delta table {name} cannot be opened: {error}", where=str(path), remedy="restore it from a backup"
            ) from error
        return self._open[name]

    def read(self, name: str, entry: dict[str, Any] | None) -> pa.Table:
        """The rows behind one entry returned by `append`, in the order written. No entry: an empty table."""
        schema = TABLES[name]
        if not entry:
            return schema.empty_table()
        parts = [read_file(self._paths.root / file["path"], schema) for file in entry["files"]]
        table = pa.concat_tables(parts).cast(schema)
        return table.sort_by(ORDER[name]) if name in ORDER else table

    def _describe(self, path: Path) -> dict[str, Any]:
        return {"path": self._paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}

    def _files_of(self, table: Any, name: str, artifact_id: str) -> list[Path]:
        actions = pa.table(table.get_add_actions(flatten=True)).select(["path", "min.artifact_id"]).to_pylist()
        return sorted(
            self._paths.table(name) / action["path"] for action in actions if action["min.artifact_id"] == artifact_id
        )


def read_file(path: Path, schema: pa.Schema) -> pa.Table:
    """One Parquet file of a Delta table with its partition columns put back. Raises VlawError if damaged or missing."""
    import pyarrow.parquet as pq

    folders = dict(part.split("=", 1) for part in path.parts if "=" in part)
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise VlawError(
            f"data file is missing or damaged: {error}", where=str(path), remedy="restore it, or re-materialize with force"
        ) from error
    for name in schema.names:
        if name not in table.column_names:
            table = table.append_column(schema.field(name), pa.array([folders.get(name)] * table.num_rows, pa.string()))
    return table.select(schema.names)
