"""How long an outside reader (delta-rs) needs to open a table with a long history and read it: with and without
checkpoints.

    .venv/bin/python benchmarks/delta_checkpoints.py [--commits 6000]

Each figure is of processes of their own, without their start and imports: seconds to open the table (its list of files
is there then), seconds to open it and read all rows, peak memory of opening. A checkpoint makes opening quick; reading
thousands of small files takes its time until `vlaw compact` has put them together. Beside it, what making a checkpoint
costs whoever commits, and what holding all of them against the log costs `vlaw audit --all --verify`.
Limits: 0.5 s to open at 6,000 commits, 0.5 s to open and read after `vlaw compact`. (fsync does nothing while the
commits are made; it does where costs are measured.)
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

from appends import rows
from common.limits import Limits, options

from vlaw_assets.lake import Lake, delta_checkpoints
from vlaw_assets.lake.upkeep import delta_checks
from vlaw_assets.lake.upkeep.compaction import compact

LIMIT_S = 0.5
RUNS = 5
AT = (100, 1000, 6000)
TABLE = "members"
READER = """
import re, sys, time
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
from deltalake import DeltaTable, QueryBuilder
before, began = peak(), time.perf_counter()
table = DeltaTable(sys.argv[1])
files = table.get_add_actions(flatten=True).num_rows
opened, memory = time.perf_counter() - began, peak() - before
rows = 0
if sys.argv[2] == "read":
    question = "SELECT count(*) AS n, max(position), max(artifact_id), max(weight) FROM t"
    answer = QueryBuilder().register("t", table).execute(question)
    rows = answer.read_all().column("n")[0].as_py()
print(opened, time.perf_counter() - began, memory / 1024, files, rows, flush=True)
"""


def asked(table: Path, what: str, runs: int) -> list[list[float]]:
    """The columns that READER prints, per run."""
    command = [sys.executable, "-c", READER, str(table), what]
    lines = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(runs)]
    return [[float(line[column]) for line in lines] for column in range(5)]


def show(kept: Limits, name: str, table: Path, *, opening: float, reading: float) -> None:
    """Prints a line, and holds it against the limits (0: none)."""
    opened, _, memory, files, _ = map(statistics.median, asked(table, "open", RUNS))
    _, read, _, _, rows = map(statistics.median, asked(table, "read", RUNS if reading else 1))
    limits = [f"{limit:5.1f}" if limit else f"{'-':>5}" for limit in (opening, reading)]
    print(
        f"{name:26} {int(files):6} {int(rows):8} {opened:9.3f} {limits[0]} {read:12.3f} {limits[1]} {memory:9.0f}",
        flush=True,
    )
    for what, seconds, limit in (("open", opened, opening), ("open and read", read, reading)):
        if limit:
            kept.at_most(f"{name}, {what}", seconds, limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=6000)
    commits, limits = options(parser, commits=1000).commits, Limits()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(Path(folder) / "lake")
        print("checkpoint of version     made by the committer, ms   file, kB")
        for number in range(1, commits + 1):
            with mock.patch.object(os, "fsync"):
                lake.tables.append(TABLE, rows(number), artifact_id=f"artifact-{number:05d}")
            if number in AT:
                began = time.perf_counter()
                made = delta_checkpoints.make(lake.paths, TABLE, number)
                print(
                    f"{number:21d} {(time.perf_counter() - began) * 1e3:27.0f} {made.stat().st_size / 1e3:10.0f}",
                    flush=True,
                )
        table = lake.paths.table(TABLE)
        began = time.perf_counter()
        problems = delta_checks.of_table(lake.paths, TABLE)
        held = time.perf_counter() - began
        kept = [path for _, path in delta_checkpoints.files(table / "_delta_log")]
        print(
            f"{len(kept)} checkpoints, {sum(path.stat().st_size for path in kept) / 1e6:.1f} MB; held against the "
            f"log in {held:.1f} s: "
            f"{len(problems)} problems\n"
        )
        bare = Path(folder) / "bare"
        shutil.copytree(
            table,
            bare,
            copy_function=os.link,
            ignore=shutil.ignore_patterns("*.checkpoint.parquet", "_last_checkpoint"),
        )
        print(f"{f'{commits} commits, delta-rs':26}  files     rows    open s limit  open+read s limit       MiB")
        show(limits, "JSON log only", bare, opening=0, reading=0)
        show(limits, "with checkpoints", table, opening=LIMIT_S, reading=0)
        compact(lake)
        show(limits, "after `vlaw compact`", table, opening=LIMIT_S, reading=LIMIT_S)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
