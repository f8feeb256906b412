"""Searching embeddings: the index against comparing every vector, in one run, on clustered vectors.

    python benchmarks/similarity.py [--count 100000] [--dimension 96] [--queries 100]

Prints the time of a search and recall@10 (how many of the true ten nearest are found). Vectors are random but
clustered, as episodes are (a task, an instruction and a phase make a cluster); uniform ones would make every index look
bad. A search is done over the whole table, and prefiltered by the ids of committed artifacts, as `vlaw similar` does
where a third of the rows belong to killed runs.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from common.limits import options

from vlaw_assets.lake import embeddings
from vlaw_assets.lake.paths import Paths

CLUSTERS, SPREAD, BATCHES, K = 500, 0.25, 30, 10
TASKS = ("stack", "book", "erase", "scoop", "draw")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=96)
    parser.add_argument("--queries", type=int, default=100)
    args = options(parser, count=20_000, queries=50)
    rng = np.random.default_rng(0)
    vectors = clustered(args.count, args.dimension, rng)
    queries = clustered(args.queries, args.dimension, np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        begun = time.perf_counter()
        name = fill(paths, vectors)
        print(
            f"{args.count} vectors of {args.dimension} numbers written in {BATCHES} tagged commits: "
            f"{time.perf_counter() - begun:.2f} s"
        )
        before = {
            killed: measure(paths, name, vectors, queries, indexed=False, killed=killed) for killed in (False, True)
        }
        begun = time.perf_counter()
        assert embeddings.refresh_index(paths, name)
        print(f"index built (IVF_FLAT, cosine): {time.perf_counter() - begun:.2f} s")
        after = {
            killed: measure(paths, name, vectors, queries, indexed=True, killed=killed) for killed in (False, True)
        }
        print("search of the 10 nearest           ms, median   ms, slowest of 20   recall@10")
        for killed in (False, True):
            of = "a third hidden" if killed else "all rows"
            for label, (middle, slow, recall) in (
                (f"{of}, one by one", before[killed]),
                (f"{of}, by the index", after[killed]),
            ):
                print(f"{label:<34} {middle:10.2f} {slow:19.2f} {recall:11.3f}")
            print(f"  index against one by one: {before[killed][0] / after[killed][0]:.1f} x quicker")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def clustered(count: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """(count, dimension) float32 of length 1, around the same random centres whatever `rng` is."""
    centres = np.random.default_rng(42).normal(size=(CLUSTERS, dimension))
    vectors = centres[rng.integers(0, CLUSTERS, count)] + SPREAD * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fill(paths: Paths, vectors: np.ndarray) -> str:
    """Writes them as so many artifacts; every third is never committed (artifact ids say which)."""
    for number, part in enumerate(np.array_split(np.arange(len(vectors)), BATCHES)):
        artifact = f"killed-{number}" if number % 3 == 2 else f"artifact-{number}"
        rows = [
            {
                "owner": artifact,
                "episode_id": str(index),
                "task": TASKS[index % len(TASKS)],
                "purpose": "rollout",
                "outcome": "failure",
            }
            for index in part
        ]
        entry = embeddings.write(
            paths, "0" * 64, embeddings.rows_of(artifact, rows, vectors[part], where="benchmark"), artifact_id=artifact
        )
    return entry["table"]


def measure(
    paths: Paths, name: str, vectors: np.ndarray, queries: np.ndarray, *, indexed: bool, killed: bool
) -> tuple[float, float, float]:
    """Milliseconds of one search, median and 95th percentile, and recall@10."""
    import lance

    table = lance.dataset(str(embeddings.folder(paths, name)))
    parts = np.array_split(np.arange(len(vectors)), BATCHES)
    committed = [number for number in range(BATCHES) if number % 3 != 2]
    alive = np.concatenate([parts[number] for number in committed] if killed else parts)
    where = embeddings.among(f"artifact-{number}" for number in committed) if killed else ""
    seconds, found_of_ten = [], []
    for query in [*queries[:3], *queries]:
        begun = time.perf_counter()
        rows = embeddings.nearest(table, query, where, K, indexed=indexed)
        seconds.append(time.perf_counter() - begun)
        true = alive[np.argsort(1 - vectors[alive] @ query, kind="stable")[:K]]
        found_of_ten.append(len({int(row["episode_id"]) for row in rows} & set(true.tolist())) / K)
    seconds, found_of_ten = seconds[3:], found_of_ten[3:]  # the first ones open files
    return 1000 * float(np.median(seconds)), 1000 * float(np.quantile(seconds, 0.95)), float(np.mean(found_of_ten))


if __name__ == "__main__":
    main()
