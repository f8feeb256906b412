"""What one more append costs as a table grows: the lake's own log entry next to delta-rs's write transaction.

    .venv/bin/python benchmarks/appends.py [--commits 500]

Both write a Parquet file of ten rows, flush and hash it, commit it, flush and hash the log entry. delta-rs opens the
table for each commit, as a new process must, or keeps it open and brings it up to date; with a checkpoint every 100
versions, as the lake has them, or every 10. CPU time, the median of 100 commits, so without what making checkpoints
takes. Limit: the lake's last append at most 1.2 times its first. Once delta-rs's best way costs at most 2 times as much
as the lake's, it is worth another look; tests/lake/test_delta_transactions.py says what else it lacks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common.limits import Limits, options
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties
from deltalake.transaction import AddAction

from vlaw_assets.lake import Lake, deltalog
from vlaw_assets.lake.durable import fsync_files, sha256_file
from vlaw_assets.lake.schemas import TABLES, validated
from vlaw_assets.lake.tables import PARTITION_BY

LIMIT, WORTH = 1.2, 2.0
AVERAGED = 100
"""Commits of one median: as many as lie between two checkpoints of the lake."""
NAME = "members"
OWNER = {"asset": "policy", "partition_key": "vlaw__01", "experiment": "vlaw", "iteration": 1}
HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def rows(number: int) -> pa.Table:
    """Ten members of one artifact."""
    member = {"artifact_id": f"artifact-{number:05d}", "owner": "o", "weight": 1.0, "source": "real", **OWNER}
    return validated(NAME, [member | {"position": i, "episode_id": f"e{i}"} for i in range(10)], where="benchmark")


class Transactions:
    """A table that delta-rs appends to."""

    def __init__(self, folder: Path, *, every: int, anew: bool):
        """`every`: versions from one checkpoint to the next; `anew`: the table is opened for each commit."""
        DeltaTable.create(str(folder), schema=TABLES[NAME], partition_by=PARTITION_BY)
        self._folder, self._every, self._anew = folder, every, anew
        self._table = DeltaTable(str(folder))
        self._newest = 0

    def append(self, rows: pa.Table) -> None:
        partition = {name: rows[name][0].as_py() for name in PARTITION_BY}
        path = self._folder.joinpath(*(f"{key}={value}" for key, value in partition.items()), f"{uuid.uuid4()}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.drop_columns(PARTITION_BY), path, compression="zstd", compression_level=1)
        fsync_files([path], root=path.parent)
        about = path.stat()
        add = AddAction(
            path=path.relative_to(self._folder).as_posix(),
            size=about.st_size,
            partition_values=partition,
            modification_time=int(about.st_mtime * 1000),
            data_change=True,
            stats=f'{{"numRecords":{rows.num_rows}}}',
        )
        if self._anew:
            self._table = DeltaTable(str(self._folder))
        else:
            self._table.update_incremental()
        said = CommitProperties(custom_metadata={"owner": rows["artifact_id"][0].as_py()})
        self._table.create_write_transaction(
            [add], "append", TABLES[NAME], PARTITION_BY, commit_properties=said, post_commithook_properties=HOOKS
        )
        self._newest = deltalog.newest(self._folder, after=self._newest)
        entry = deltalog.entry_path(self._folder, self._newest)
        fsync_files([entry], root=entry.parent)
        sha256_file(entry), sha256_file(path)
        if self._newest % self._every == 0:
            DeltaTable(str(self._folder)).create_checkpoint()


def first_and_last(append: Callable[[pa.Table], object], tables: list[pa.Table]) -> tuple[float, float]:
    """CPU ms per append: the median of the first and of the last AVERAGED."""
    spent = []
    for table in tables:
        begun = time.process_time()
        append(table)
        spent.append((time.process_time() - begun) * 1e3)
    return statistics.median(spent[1 : AVERAGED + 1]), statistics.median(spent[-AVERAGED:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=500)
    commits, limits = options(parser, commits=2 * AVERAGED).commits, Limits()
    tables = [rows(number) for number in range(commits)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = Lake.open(folder / "lake")
        print(f"{len(tables)} commits, CPU ms each       first   last  last/first  last/lake's")
        first, last = first_and_last(partial(lake.tables.append, NAME, artifact_id="a"), tables)
        ours, grew = last, last / first
        print(f"{'lake':31} {first:6.1f} {last:6.1f} {grew:11.2f}", flush=True)
        ratios = []
        for anew, every in ((True, 100), (False, 100), (True, 10), (False, 10)):
            title = f"delta-rs {'opened' if anew else 'kept open'}, checkpoint/{every}"
            peer = Transactions(folder / title.replace("/", "-"), every=every, anew=anew)
            first, last = first_and_last(peer.append, tables)
            ratios.append(last / ours)
            print(f"{title:31} {first:6.1f} {last:6.1f} {last / first:11.2f} {ratios[-1]:12.1f}", flush=True)
    verdict = "worth another look" if min(ratios) <= WORTH else "the lake's stays"
    print(f"delta-rs at its best {min(ratios):.1f} x the lake's (would do: {WORTH} x): {verdict}")
    limits.at_most("last append of the lake next to the first", grew, LIMIT)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
