"""SQL over two million rows of steps: through the locked views, through plain DuckDB, through an Arrow dataset.

    .venv/bin/python benchmarks/sql_views.py [--rows 2000000] [--artifacts 30] [--repeat 15]

Makes a lake in a temporary folder through the lake's own commits, then asks the same two questions three ways on the
same files, in turns, and prints the shortest and the median of each and their ratios to plain DuckDB. "query" is
execution on an open connection; "connect" is what it costs to open the locked connection once and to have all views, a
process of its own included.

Then what the protection costs: verifying every file the first time (each byte is hashed), a second time (by the memory
of verified files), both against plain DuckDB reading the same files once; the same for many small files; and what a
statement costs that does nothing, for the way to the other process and back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from common.limits import options

from vlaw_assets.lake import Identity, Lake
from vlaw_assets.lake.schemas import STEPS
from vlaw_assets.lake.verified import RACY_NS, Verified
from vlaw_assets.query import connect, views

STEPS_OF_EPISODE = 40


def fill(lake: Lake, rows: int, artifacts: int) -> str:
    """Commit `artifacts` partitions of steps; the id of an episode in the middle."""
    per = rows // artifacts
    for number in range(artifacts):
        rng = np.random.default_rng(number)
        index = np.arange(per)
        ids = np.char.add(f"rollout-{number:04d}-", np.char.zfill((index // STEPS_OF_EPISODE).astype(str), 6))
        step = (index % STEPS_OF_EPISODE).astype(np.int32)
        columns = pa.table(
            {
                "episode_id": ids,
                "step": step,
                "timestamp": step / 5.0,
                "reward": rng.random(per, dtype=np.float32),
                "state": _lists(rng.random((per, 5), dtype=np.float32)),
                "action": _lists(rng.random((per, 4), dtype=np.float32)),
            }
        )
        identity = Identity("bench", "code", f'{{"number":{number}}}', ())
        with lake.commit(
            asset="real_rollouts", partition=f"bench|{number:02d}", identity=identity, run_id="bench"
        ) as draft:
            draft.write_table("steps", columns)
    return f"rollout-{artifacts // 2:04d}-{per // STEPS_OF_EPISODE // 2:06d}"


def _lists(values: np.ndarray) -> pa.Array:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def plain(files: list[str]) -> duckdb.DuckDBPyConnection:
    """What somebody without vlaw would do: DuckDB over the files."""
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
    listed = ", ".join(map(views.quoted, files))
    connection.execute(f"CREATE VIEW steps AS SELECT * FROM read_parquet([{listed}], hive_partitioning = true)")
    return connection


def arrow(lake: Lake, files: list[str]) -> duckdb.DuckDBPyConnection:
    """DuckDB over a pyarrow dataset of the files."""
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
    layout = pads.partitioning(pa.schema([STEPS.field("asset"), STEPS.field("partition_key")]), flavor="hive")
    connection.register(
        "steps",
        pads.dataset(
            files,
            schema=STEPS,
            format="parquet",
            partitioning=layout,
            partition_base_dir=str(lake.paths.table("steps")),
        ),
    )
    return connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--artifacts", type=int, default=30)
    parser.add_argument("--files", type=int, default=100_000, help="small files to verify")
    parser.add_argument("--repeat", type=int, default=25)
    args = options(parser, rows=400_000, files=10_000, repeat=5)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        lake = Lake.open(Path(folder) / "lake")
        episode = fill(lake, args.rows, args.artifacts)
        files = [source.path for source in views.sources(lake, lake.ledger.artifacts())["steps"]]
        asked = {
            "point query": f"SELECT step, reward, state FROM steps WHERE episode_id = '{episode}' ORDER BY step",
            "one partition": "SELECT count(*), avg(reward) FROM steps WHERE partition_key = 'bench__07'",
            "aggregate": "SELECT step, count(*), avg(reward), max(timestamp) FROM steps GROUP BY step ORDER BY step",
        }
        time.sleep(1.1 * RACY_NS / 1e9)  # files that have just changed are hashed by every statement
        opened = time_of(lambda: all_views(lake), 5)
        with connect(lake) as query:
            ways: dict[str, Callable] = {
                "plain DuckDB": plain(files).execute,
                "locked views": query.execute,
                "Arrow dataset": arrow(lake, files).execute,
            }
            print(
                f"{args.rows} rows in {len(files)} files; connect {1000 * min(opened):.1f} ms; shortest, median of "
                f"{args.repeat}"
            )
            for name, sql in asked.items():
                answers = {way: run(sql).fetchall() for way, run in ways.items()}
                counts = {len(rows) for rows in answers.values()}
                assert len(counts) == 1, counts
                spent: dict[str, list[float]] = {way: [] for way in ways}
                for _ in range(args.repeat):  # in turns, so that a busy machine is busy for all of them
                    for way, run in ways.items():
                        spent[way] += time_of(lambda run=run, sql=sql: run(sql).fetchall(), 1)
                for way, times in spent.items():
                    shown = (
                        f"{1000 * of(times):7.1f} ms {of(times) / of(spent['plain DuckDB']):5.2f} x"
                        for of in (min, statistics.median)
                    )
                    print(f"{name:<14} {way:<14} {'   '.join(shown)}")
            alone = plain(files)
            spent = {
                "plain DuckDB": time_of(lambda: alone.execute("SELECT 1").fetchall(), args.repeat),
                "locked views": time_of(lambda: query.execute("SELECT 1").fetchall(), args.repeat),
            }
            for way, times in spent.items():
                print(
                    f"{'SELECT 1':<14} {way:<14} {1000 * min(times):7.2f} ms, median "
                    f"{1000 * statistics.median(times):.2f}"
                )
        entries = [file for ref in lake.ledger.artifacts() for file in ref.versions["steps"]["files"]]
        verifying(lake.paths.root, entries, time_of(lambda: plain(files).execute(asked["aggregate"]).fetchall(), 3))
        small = Path(folder) / "small"
        verifying(small, many(small, args.files), [])


def all_views(lake: Lake) -> None:
    """Open a connection, and have it make all there is."""
    with connect(lake) as query:
        query.execute("SHOW TABLES")


def many(root: Path, count: int) -> list[dict[str, object]]:
    """Files of a few bytes each, and their records."""
    entries = []
    for number in range(count):
        path = root / str(number // 1000) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = f"file {number}".encode()
        path.write_bytes(data)
        entries.append(
            {"path": path.relative_to(root).as_posix(), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        )
    return entries


def verifying(root: Path, entries: list[dict[str, object]], scan: list[float]) -> None:
    """Prints what it costs the first and the second time, each in a memory that a new process would read."""
    time.sleep(1.1 * RACY_NS / 1e9)  # what has just changed is not remembered
    megabytes = sum(int(entry["size"]) for entry in entries) / 1e6
    memory = root.with_name(f"{root.name}-memory")  # one that knows nothing
    (first,), second = (time_of(lambda: Verified(root, memory).problems(entries), count) for count in (1, 5))
    second = min(second)
    compared = (
        f", {first / min(scan):.2f} x and {second / min(scan):.3f} x one aggregate by plain DuckDB" if scan else ""
    )
    print(
        f"verify {len(entries)} files, {megabytes:.1f} MB: first time {1000 * first:.1f} ms ({megabytes / first:.0f} "
        f"MB/s), "
        f"second {1000 * second:.1f} ms ({1e6 * second / len(entries):.1f} us a file), {first / second:.0f} x{compared}"
    )


def time_of(work: Callable[[], object], repeat: int) -> list[float]:
    """Seconds of each of `repeat` calls."""
    spent = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return spent


if __name__ == "__main__":
    main()
