"""Why the lake appends to its Delta logs itself: what delta-rs's own write transaction does not keep.

`DeltaTable.create_write_transaction` commits files that are already written and flushed, as `deltalog.append` does.
Each test shows one guarantee of the lake that it lacks. One that fails says that delta-rs keeps it by now; when all do,
and `benchmarks/appends.py` finds the cost within its limit, `deltalog.append` can go.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deltalake import DeltaTable
from deltalake.transaction import AddAction
from strace_log import Disk, calls, tracing

from vlaw_assets.lake import deltalog
from vlaw_assets.lake.durable import fsync_files
from vlaw_assets.lake.tables import KEEP_FOREVER

KEPT = "delta-rs keeps this now: see whether deltalog.append is still needed"
BEGIN, END = "begin", "end"


def table_in(folder: Path) -> Path:
    """A Delta table of one column, empty, in the form of the lake's."""
    import pyarrow as pa

    schema = pa.schema([("number", pa.int64())])
    DeltaTable.create(str(folder / "table"), schema=schema, configuration=KEEP_FOREVER)
    return folder / "table"


def written(table: Path, number: int) -> AddAction:
    """One data file, flushed, and the action that commits it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = table / f"part-{number}.parquet"
    pq.write_table(pa.table({"number": [number]}), path)
    fsync_files([path], root=table)
    return AddAction(
        path=path.name,
        size=path.stat().st_size,
        partition_values={},
        modification_time=int(path.stat().st_mtime * 1000),
        data_change=True,
        stats='{"numRecords":1}',
    )


def commit(table: DeltaTable, action: AddAction) -> int | None:
    return table.create_write_transaction([action], "append", table.schema())


def traced(folder: Path) -> None:
    """What runs under strace: one commit between two marks."""
    table = table_in(folder)
    action, opened = written(table, 1), DeltaTable(str(table))
    (folder / BEGIN).touch()
    commit(opened, action)
    (folder / END).touch()


def test_the_log_entry_gets_its_name_before_its_bytes_are_on_the_disk(tmp_path):
    folder = tmp_path.resolve()
    done = subprocess.run(
        [*tracing(folder / "trace"), sys.executable, __file__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = list(calls(folder / "trace"))
    marks = [number for number, call in enumerate(found) if {str(folder / BEGIN), str(folder / END)} & {*call.paths}]
    entry = str(deltalog.entry_path(folder / "table", 1))
    disk, at_name = Disk(str(folder / "table"), set()), None
    for call in found[marks[0] : marks[-1]]:
        if call.name.startswith(("link", "rename")) and call.paths[-1] == entry:
            at_name = call.paths[0] in disk.data
        disk.do(call)
    assert at_name is not None, "the entry is linked or renamed into the log"
    assert at_name, KEPT
    assert entry in disk.data | disk.entries, KEPT


def test_a_transaction_does_not_say_which_version_it_made(tmp_path):
    table = table_in(tmp_path)
    opened = DeltaTable(str(table))
    returned = commit(opened, written(table, 1))
    assert deltalog.newest(table) == 1
    assert returned is None, KEPT
    assert opened.version() != 1, KEPT


def test_the_number_of_a_version_that_was_lost_is_given_again(tmp_path):
    table = table_in(tmp_path)
    for number in (1, 2):
        commit(DeltaTable(str(table)), written(table, number))
    deltalog.entry_path(table, 2).unlink()
    commit(DeltaTable(str(table)), written(table, 3))  # nor can the transaction be told that there was a version 2
    assert deltalog.versions(table) == [0, 1, 2], KEPT


if __name__ == "__main__":
    traced(Path(sys.argv[1]))
