"""What one more append costs as a table grows: the lake's own (Parquet file, one log entry) next to delta-rs's.

    .venv/bin/python benchmarks/appends.py [--commits 430]

The lake's includes hashing and fsync, delta-rs's neither. Limit: the last append at most 1.2 times the first, in CPU
time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from common.limits import Limits, options
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake

from vlaw_assets.lake import Lake
from vlaw_assets.lake.schemas import validated

LIMIT = 1.2
AVERAGED = 20
OWNER = {"asset": "policy", "partition_key": "vlaw__01", "experiment": "vlaw", "iteration": 1}


def rows(number: int) -> pa.Table:
    """Ten members of one artifact."""
    member = {"artifact_id": f"artifact-{number:05d}", "owner": "o", "weight": 1.0, "source": "real", **OWNER}
    return validated("members", [member | {"position": i, "episode_id": f"e{i}"} for i in range(10)], where="benchmark")


def cpu_of(append: Callable[[int], object], commits: int) -> list[float]:
    """CPU seconds of each append."""
    seconds = []
    for number in range(commits):
        begun = time.process_time()
        append(number)
        seconds.append(time.process_time() - begun)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=430)
    commits, limits = options(parser, commits=150).commits, Limits()
    tables = [rows(number) for number in range(commits)]
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(Path(folder) / "lake")
        table = DeltaTable.create(f"{folder}/peer", schema=tables[0].schema, partition_by=["asset", "partition_key"])
        hooks = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)

        def peer(number: int) -> None:
            write_deltalake(
                table,
                tables[number],
                mode="append",
                post_commithook_properties=hooks,
                commit_properties=CommitProperties(custom_metadata={"n": str(number)}),
            )

        own = cpu_of(lambda n: lake.tables.append("members", tables[n], artifact_id=f"artifact-{n:05d}"), commits)
        print(f"CPU ms per append, median of the first and the last {AVERAGED} of {commits}")
        ratios = {}
        for name, seconds in (("lake", own), ("delta-rs", cpu_of(peer, commits))):
            first, last = (statistics.median(part) * 1e3 for part in (seconds[1 : AVERAGED + 1], seconds[-AVERAGED:]))
            ratios[name] = last / first
            print(f"{name:10} first {first:6.1f}  last {last:6.1f}  ratio {ratios[name]:5.2f}  (limit {LIMIT})")
        limits.at_most("last append of the lake next to the first", ratios["lake"], LIMIT)
    return limits.status()


if __name__ == "__main__":
    sys.exit(main())
