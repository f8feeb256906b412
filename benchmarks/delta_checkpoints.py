"""How long an outside reader (delta-rs) needs to open a table with a long history and read it, with and without checkpoints.

    .venv/bin/python benchmarks/delta_checkpoints.py [--commits 6000]

Each figure is of a process of its own: seconds and peak memory, the bare interpreter with its imports taken off. Beside it, what
making a checkpoint costs whoever commits, and what holding them all against the log costs `vlaw audit --all --verify`.
Limit: open and read in 0.5 s at 6,000 commits. (fsync does nothing while the commits are made; it does where costs are measured.)
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pyarrow as pa

from vlaw_assets.lake import Lake, delta_checkpoints, delta_checks
from vlaw_assets.lake.schemas import validated

LIMIT_S = 0.5
RUNS = 5
AT = (100, 1000, 6000)
TABLE = "quarantine"
READER = """
import resource, sys, time
from deltalake import DeltaTable
import pyarrow.parquet as pq, pyarrow.dataset
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
table = DeltaTable(sys.argv[1])
opened = time.perf_counter()
rows = table.get_add_actions(flatten=True).num_rows
read = table.to_pyarrow_dataset().head(1000).num_rows
done = time.perf_counter()
print(opened - began, done - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, rows, read)
"""


def commit(lake: Lake, number: int) -> None:
    """One row, as small as a table has them."""
    name = f"artifact-{number:05d}"
    row = {"artifact_id": name, "asset": "quarantine", "partition_key": "foundation", "experiment": "", "iteration": 0,
           "position": 0, "episode_id": "e", "quarantined": True, "why": "", "by": "benchmark"}
    known = {field.name for field in lake_schema()}
    lake.tables.append(TABLE, validated(TABLE, [{key: value for key, value in row.items() if key in known}], where="benchmark"),
                       artifact_id=name)


def lake_schema() -> pa.Schema:
    from vlaw_assets.lake.schemas import TABLES

    return TABLES[TABLE]


def reading(table: Path) -> tuple[float, float, float, str]:
    """Median seconds to open and to open and read, median peak MiB, and what was found."""
    found = []
    for _ in range(RUNS):
        done = subprocess.run([sys.executable, "-c", READER, str(table)], capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    opened, done, memory = (statistics.median(float(row[column]) for row in found) for column in range(3))
    return opened, done, memory, f"{found[0][3]} files, first {found[0][4]} rows"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=6000)
    commits = parser.parse_args().commits
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(Path(folder) / "lake")
        print("checkpoint of version     made by the committer, ms   file, kB")
        for number in range(1, commits + 1):
            with mock.patch.object(os, "fsync"):
                commit(lake, number)
            if number in AT:
                began = time.perf_counter()
                made = delta_checkpoints.make(lake.paths, TABLE, number)
                print(f"{number:21d} {(time.perf_counter() - began) * 1e3:27.0f} {made.stat().st_size / 1e3:10.0f}", flush=True)
        table = lake.paths.table(TABLE)
        began = time.perf_counter()
        problems = delta_checks.of_table(lake.paths, TABLE)
        held = time.perf_counter() - began
        kept = [path for _, path in delta_checkpoints.files(table / "_delta_log")]
        print(f"{len(kept)} checkpoints, {sum(path.stat().st_size for path in kept) / 1e6:.1f} MB; held against the log in {held:.1f} s: "
              f"{len(problems)} problems\n")
        bare = Path(folder) / "bare"
        shutil.copytree(table, bare, copy_function=os.link, ignore=shutil.ignore_patterns("*.checkpoint.parquet", "_last_checkpoint"))
        print(f"{commits} commits, delta-rs         open s  open+read s  memory MiB   limit s")
        for name, path in (("with checkpoints", table), ("JSON log only", bare)):
            opened, done, memory, what = reading(path)
            limit = f"{LIMIT_S:9.1f}" if path == table else ""
            print(f"{name:30} {opened:8.3f} {done:12.3f} {memory:11.0f} {limit}  {what}")
            missed = path == table and done > LIMIT_S
            if missed:
                print("over the limit")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
