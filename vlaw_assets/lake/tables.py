"""The Delta tables of a lake: creation, appends, and reads of exactly the files an artifact wrote.

Every append belongs to one artifact, so the ledger can name its files one by one, with size and sha256. Reading those
files (and not a table version filtered by artifact) makes reads independent of other artifacts: no leftover of a
killed run and no damaged file of somebody else can get in the way. The tables stay ordinary Delta tables for any
other reader, who must then filter by the artifact ids in `artifacts`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.lake import delta_checkpoints, deltalog, disk, replica
from vlaw_assets.lake.durable import (
    FileLock,
    canonical_json,
    file_problems,
    fsync_files,
    replace_file,
    sha256_file,
)
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import LATER, ORDER, PARTITIONED, TABLES
from vlaw_assets.lake.spool import Spool
from vlaw_assets.lake.statistics import joined, of_rows
from vlaw_models.errors import VlawError

KEEP_FOREVER = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 5200 weeks",
    "delta.deletedFileRetentionDuration": "interval 5200 weeks",
}
"""Delta's defaults delete log entries after 30 days; an audit wants all of them."""

ARTIFACT, ROWS = "vlaw.artifact_id", "vlaw.rows"
"""Keys of a commit's metadata: whose rows these are, and (ledger tables) the rows themselves."""
CARRIED = {"artifacts", "edges"}
MOST_CARRIED = 1000
"""Rows of a commit that its log entry carries; more than that are read from the Parquet file."""

PARTITION_BY = ["asset", "partition_key"]
_FORM = {"compression": "zstd", "compression_level": 1, "store_schema": False}
LOCK_S = 60.0
ROW_GROUP = 1 << 17
"""Rows per row group: what a query reads and skips at a time, and one core works on."""
LOOKED_UP = {"members": 1 << 15, "reads": 1 << 15}
"""Tables that are asked where an episode is, and their row groups: ids of many artifacts lie side by side in one file,
so minima and maxima rule nothing out, and Bloom filters do (4 x faster at 10^7 rows, for 1.2 bytes per row)."""


def tables_of(paths: Paths) -> list[str]:
    """Names of the tables that a lake has: all, but those of LATER that nothing was written to yet."""
    return [name for name in TABLES if name not in LATER or deltalog.entry_path(paths.table(name), 0).is_file()]


class Tables:
    """The Delta tables under `<lake>/delta`."""

    def __init__(self, paths: Paths):
        self.paths = paths
        self._open: dict[str, Any] = {}
        self._newest: dict[str, int] = {}
        """A version of each table that is known to exist: the next one is looked for from there."""
        self._flushed: set[Path] = set()
        """Folders whose way down from the lake is on the disk."""
        self._later: list[tuple[str, int]] | None = None
        """Checkpoints that are due, while they wait for the end of a commit of several tables."""

    def create(self) -> None:
        """Create the tables that are missing, but those of LATER. Call under the lake's lock: two creators would
        race."""
        for name in TABLES:
            if name not in LATER:
                self._create(name)

    def _create(self, name: str) -> None:
        from deltalake import DeltaTable

        DeltaTable.create(
            str(self.paths.table(name)),
            schema=TABLES[name],
            mode="ignore",
            name=name,
            partition_by=PARTITION_BY if name in PARTITIONED else None,
            configuration=KEEP_FOREVER,
        )
        log = self.paths.table(name) / "_delta_log"
        fsync_files(sorted(log.glob("*.json")), root=self.paths.root)

    def append(self, name: str, rows: pa.Table | Spool, *, artifact_id: str, least: int = -1) -> dict[str, Any]:
        """Append the rows of one artifact, durably. Returns {"version", "rows", "files", "log"}; `least`: see
        `deltalog.append`. Rows of a spool pass through memory a row group at a time.

        `files` are the data files, `log` is the entry that committed them, each {path, size, sha256}. On return all of
        them and their folders have reached the disk.
        """
        first = deltalog.entry_path(self.paths.table(name), 0)
        if name in LATER and not first.is_file():
            # Two partitions may be the first to write to it.
            with FileLock(self.paths.locks / "lake.lock").hold(name, wait_s=LOCK_S, remedy="wait until it is done"):
                self._create(name)
        entry = self.write(name, rows, artifact_id=artifact_id, least=least)
        logs = [entry.path, first] if name in LATER else [entry.path]  # FORMAT.json pins the creation of the others
        return {
            "version": entry.version,
            "rows": rows.num_rows,
            "files": [self._describe(path) for path in sorted(entry.added)],
            "log": [self._describe(path) for path in logs],
        }

    def write(
        self,
        name: str,
        rows: pa.Table | Spool,
        *,
        artifact_id: str,
        metadata: dict[str, str] | None = None,
        least: int = -1,
    ) -> deltalog.Entry:
        """Append rows of one asset partition, durably, and return the log entry of the commit; `least`: see
        `deltalog.append`."""
        table = self.paths.table(name)
        adds = []
        if rows.num_rows:
            path, add = _write_file(table, name, rows)
            # Folders up to the lake's are flushed once per process; from then on only the one with a new file.
            fsync_files([path], root=path.parent if path.parent in self._flushed else self.paths.root)
            self._flushed.add(path.parent)
            adds.append(add)
        small = name in CARRIED and rows.num_rows <= MOST_CARRIED
        carried = {ROWS: _carried(rows)} if small and isinstance(rows, pa.Table) else {}
        known = self._newest.get(name, -1)
        if known < 0:
            known = deltalog.newest(table, least=least)
        found = {ARTIFACT: artifact_id, **carried, **(metadata or {})}
        entry = deltalog.append(table, adds, metadata=found, after=known, least=least)
        self._newest[name] = entry.version
        if self._later is None:
            delta_checkpoints.after(self.paths, name, entry.version)
        else:
            self._later.append((name, entry.version))
        return entry

    def restorable(self, name: str, files: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]] | None:
        """What commits again the data files of a lost log entry: (`add` actions, metadata); None where a file is not as
        described."""
        if not files or file_problems(self.paths.root, files):
            return None
        found = [(self.paths.root / file["path"], file) for file in files]
        rows = pa.concat_tables([read_file(path, TABLES[name]) for path, _ in found])
        table = self.paths.table(name)
        adds = [_add_action(table, path, of_rows(read_file(path, TABLES[name])), {}) for path, _ in found]
        metadata = {ARTIFACT: rows["artifact_id"][0].as_py(), "vlaw.restored": "true"}
        return adds, metadata | ({ROWS: _carried(rows)} if rows.num_rows <= MOST_CARRIED else {})

    def restore_file(self, name: str, entry: deltalog.Entry, path: Path) -> None:
        """Write a data file again from the rows that its commit carries. Raises VlawError where that gives other
        bytes."""
        import pyarrow.parquet as pq

        remedy = "restore it from a backup"
        if ROWS not in entry.info or len(entry.added) != 1:
            raise VlawError(f"a data file of version {entry.version} of {name} is gone", where=str(path), remedy=remedy)
        carried = json.loads(entry.info[ROWS])
        for row in carried:
            row |= {key: datetime.fromisoformat(row[key]) for key in ("created_at",) if key in row}
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(carried, schema=TABLES[name]), buffer, **_FORM, row_group_size=ROW_GROUP)
        data = buffer.getvalue().to_pybytes()
        if len(data) != entry.sizes.get(path):
            raise VlawError(
                f"a data file of version {entry.version} of {name} is gone, and its rows give another file now",
                where=str(path),
                remedy=remedy,
            )
        replace_file(path, data)

    @contextmanager
    def checkpoints_last(self) -> Iterator[None]:
        """Checkpoints that come due in the block are made after it: they hold up no artifact on its way into the
        ledger."""
        self._later = []
        try:
            yield
        finally:
            due, self._later = self._later, None
            for name, version in due:
                delta_checkpoints.after(self.paths, name, version)

    def artifact_of(self, entry: deltalog.Entry) -> str:
        """The artifact whose rows a commit brought; '' for commits that bring none (creation, compaction, schema)."""
        return str(entry.info.get(ARTIFACT, "")) if entry.added else ""

    def committed(
        self,
        name: str,
        entries: Iterable[deltalog.Entry],
        convert: Callable[[dict[str, Any]], Any],
        *,
        pinned: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> Iterator[Any]:
        """The rows that these commits brought, each converted, in order: from the entries, or else from their files.

        `pinned`: version -> what the ledger says of its files, which are hashed before they are read.
        Raises VlawError naming the log entry or the file that is damaged or missing.
        """
        for entry in entries:
            try:
                rows = json.loads(entry.info[ROWS]) if ROWS in entry.info else None
                if rows is None:
                    self._check(pinned[entry.version]["files"] if pinned else ())
                    rows = [row for path in entry.added for row in read_file(path, TABLES[name]).to_pylist()]
                for row in rows:
                    if isinstance(row.get("created_at"), str):
                        row["created_at"] = datetime.fromisoformat(row["created_at"])
                    yield convert(row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise VlawError(
                    f"a row of Delta table {name} is damaged ({type(error).__name__})",
                    where=str(entry.path),
                    remedy="restore it from a backup",
                ) from error

    def _check(self, files: Iterable[dict[str, Any]]) -> None:
        for problem in file_problems(self.paths.root, files):
            path, _, what = problem.partition(": ")
            raise VlawError(f"data file: {what}", where=str(self.paths.root / path), remedy="restore it from a backup")

    def open(self, name: str) -> Any:
        """The DeltaTable at its newest version. Raises VlawError if the table is missing or its log unreadable."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        path = self.paths.table(name)
        try:
            if name in self._open:
                self._open[name].update_incremental()
            else:
                self._open[name] = DeltaTable(str(path))
        except (DeltaError, OSError) as error:
            disk.refuse_if_out_of_files(error)
            raise VlawError(
                f"Delta table {name} cannot be opened: {error}", where=str(path), remedy="restore it from a backup"
            ) from error
        return self._open[name]

    def read(self, name: str, entry: dict[str, Any] | None, columns: Collection[str] | None = None) -> pa.Table:
        """The rows behind one entry returned by `append`, in the order written. No entry: an empty table.

        `columns`: read only these, in no particular order of rows.
        """
        schema = TABLES[name] if columns is None else pa.schema([TABLES[name].field(column) for column in columns])
        if not entry:
            return schema.empty_table()
        replica.need(self.paths.root, entry["files"])
        parts = [read_file(self.paths.root / file["path"], schema) for file in entry["files"]]
        table = pa.concat_tables(parts).cast(schema)
        return table.sort_by(ORDER[name]) if name in ORDER and columns is None else table

    def batches(self, entry: dict[str, Any] | None, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of the rows behind one entry, a part of a row group at a time. VlawError for a damaged file."""
        import pyarrow.parquet as pq

        files = entry["files"] if entry else ()
        replica.need(self.paths.root, files)
        for file in files:
            path = self.paths.root / file["path"]
            try:
                with pq.ParquetFile(path) as opened:
                    yield from opened.iter_batches(columns=list(columns), use_threads=False)
            except (OSError, pa.ArrowInvalid) as error:
                raise _damaged(path, error) from error

    def _describe(self, path: Path) -> dict[str, Any]:
        return {"path": self.paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}


def _write_file(table: Path, name: str, rows: pa.Table | Spool) -> tuple[Path, dict[str, Any]]:
    """Write rows as one Parquet file of a Delta table; returns it and the `add` action that would commit it."""
    import pyarrow.parquet as pq

    groups = iter([rows]) if isinstance(rows, pa.Table) else rows.groups(ROW_GROUP)
    first = next(groups)
    partition = {column: _only(name, first, column) for column in (PARTITION_BY if name in PARTITIONED else ())}
    folder = table.joinpath(*(f"{column}={value}" for column, value in partition.items()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-00000-{uuid.uuid4()}-c000.zstd.parquet"
    group, blooms = ROW_GROUP, None
    if name in LOOKED_UP:
        group = LOOKED_UP[name]
        blooms = {"episode_id": {"ndv": min(rows.num_rows, group), "fpp": 0.01}}
    schema = first.drop_columns(list(partition)).schema
    statistics = []
    try:
        with pq.ParquetWriter(path, schema, **_FORM, bloom_filter_options=blooms) as writer:
            for part in chain([first], groups):
                if {column: _only(name, part, column) for column in partition} != partition:
                    raise VlawError("rows of several partitions in one append", where=name, remedy="append them apart")
                own = part.drop_columns(list(partition))
                statistics.append(of_rows(own))
                writer.write_table(own, row_group_size=group)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, _add_action(table, path, joined(statistics), partition)


def _add_action(table: Path, path: Path, statistics: dict[str, Any], partition: dict[str, str]) -> dict[str, Any]:
    """What commits a data file to a Delta table."""
    return {
        "path": path.relative_to(table).as_posix(),
        "partitionValues": partition,
        "size": path.stat().st_size,
        "modificationTime": int(path.stat().st_mtime * 1000),
        "dataChange": True,
        "stats": json.dumps(statistics, separators=(",", ":")),
    }


def _only(name: str, rows: pa.Table, column: str) -> str:
    values = rows[column].unique().to_pylist()
    if len(values) != 1:
        raise VlawError(
            f"rows of {len(values)} values of {column} in one append", where=name, remedy="append them one by one"
        )
    return str(values[0])


def _carried(rows: pa.Table) -> str:
    """Rows as JSON for a commit's metadata."""
    return canonical_json(
        [
            {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
            for row in rows.to_pylist()
        ]
    )


def _damaged(path: Path, error: Exception) -> VlawError:
    disk.refuse_if_out_of_files(error)
    return VlawError(
        f"data file is missing or damaged: {error}",
        where=str(path),
        remedy="restore it, or re-materialize with force",
    )


def read_file(path: Path, schema: pa.Schema) -> pa.Table:
    """One Parquet file of a Delta table with its partition columns put back. Raises VlawError if damaged or missing."""
    import pyarrow.parquet as pq

    folders = dict(part.split("=", 1) for part in path.parts if "=" in part)
    if copy := replica.of(path):
        copy.want(path)
    try:
        file = pq.ParquetFile(path)
        held = set(file.schema_arrow.names)
        # A pool of threads costs more than a small file.
        table = file.read(
            [name for name in schema.names if name in held], use_threads=file.metadata.num_rows > ROW_GROUP
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, error) from error
    for name in schema.names:
        if name not in table.column_names:
            kind = schema.field(name).type
            value = pa.scalar(folders.get(name), pa.string()).cast(kind)
            table = table.append_column(schema.field(name), pa.repeat(value, table.num_rows))
    return table.select(schema.names)
