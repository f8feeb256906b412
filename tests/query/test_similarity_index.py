"""The index of the vectors of one model: built when it is worth it, by one process, and never more than a shortcut."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import commit
from known_vectors import MODEL

from vlaw_assets.lake import Lake, embeddings
from vlaw_assets.query import similarity

ROOT = Path(__file__).parents[2]


def many(lake: Lake, partition: str, count: int, seed: int):
    """Episodes without pixels, embedded at random; returns the ids and vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"rollout-{seed}-{number:05d}" for number in range(count)]
    ref = commit(
        lake,
        "episode_embeddings",
        partition,
        write=lambda draft: draft.write_embeddings(
            MODEL,
            [
                {
                    "owner": "none",
                    "episode_id": name,
                    "task": ("a", "b")[n % 2],
                    "purpose": "rollout",
                    "outcome": "failure",
                }
                for n, name in enumerate(names)
            ],
            vectors,
        ),
        recipe={"features": "f", "in": partition},
    )
    return names, vectors, ref.versions["embeddings"]["table"]


def nearest_names(vector, names, vectors, k):
    order = np.argsort(1 - vectors @ vector, kind="stable")
    return [names[i] for i in order[1 : k + 1]]


@pytest.mark.slow
def test_index_is_built_when_worth_it_finds_the_same_and_losing_it_costs_no_row(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    few, _, table = many(lake, "a|01", 100, 1)
    assert not embeddings.refresh_index(lake.paths, table), "not worth it"
    assert not similarity.similar(lake, few[0], k=1).indexed
    names, _, _ = many(lake, "a|02", 400, 2)
    assert embeddings.refresh_index(lake.paths, table)
    assert not embeddings.refresh_index(lake.paths, table), "there already"
    mine = similarity.similar(lake, names[7], k=5, experiment="a")
    assert mine.indexed
    exact = similarity.similar(lake, names[7], k=5, exact=True)
    assert not exact.indexed
    assert [n.episode_id for n in mine.neighbours] == [n.episode_id for n in exact.neighbours]
    # Rows that came after the index are found, and by the same distances.
    newer, newer_vectors, _ = many(lake, "a|03", 50, 3)
    found = similarity.similar(lake, newer[3], k=1000)
    assert found.indexed
    assert len(found.neighbours) == 549
    assert [n.episode_id for n in found.neighbours if n.episode_id in newer] == nearest_names(
        newer_vectors[3], newer, newer_vectors, 49
    )
    shutil.rmtree(lake.paths.embeddings / f"{table}.lance" / "_indices")
    without = similarity.similar(lake, names[7], k=5)
    assert not without.indexed
    assert without.neighbours == exact.neighbours
    assert embeddings.refresh_index(lake.paths, table), "rebuilt from the rows"
    assert similarity.similar(lake, names[7], k=5).indexed
    # Tagged versions, and with them what the ledger pins, are as they were.
    for partition in ("a|01", "a|02", "a|03"):
        assert lake.read(lake.ledger.require("episode_embeddings", partition)).problems() == []


def test_only_one_process_builds_the_index(tmp_path):
    from vlaw_assets.lake.durable import FileLock

    lake = Lake.open(tmp_path / "lake")
    _, _, table = many(lake, "a|01", 300, 1)
    lock = FileLock(lake.paths.locks / f"embeddings-index--{table}.lock")
    assert lock.acquire(holder="other")
    try:
        assert not embeddings.refresh_index(lake.paths, table)
    finally:
        lock.release()
    assert embeddings.refresh_index(lake.paths, table)


def test_two_processes_make_the_table_of_a_model_together(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    code = """
import json, sys
import numpy as np
from vlaw_assets.lake import embeddings
from vlaw_assets.lake.paths import Paths
from pathlib import Path
row = {"owner": "none", "episode_id": "e", "task": "t", "purpose": "rollout", "outcome": "failure"}
for number in range(3):
    name = f"{sys.argv[2]}-{number}"
    table = embeddings.rows_of(name, [row] * 20, np.eye(20, 8, dtype=np.float32) + np.eye(20, 8, -8, dtype=np.float32)
                               + np.eye(20, 8, -16, dtype=np.float32), where="test")
    print(json.dumps(embeddings.write(Paths(Path(sys.argv[1])), "ab" * 32, table, artifact_id=name)))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(lake.paths.root), name],
            text=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in "ab"
    ]
    entries = []
    for process in running:
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        entries += [json.loads(line) for line in out.splitlines()]
    assert len({entry["version"] for entry in entries}) == 6
    for entry in entries:
        assert set(embeddings.read(lake.paths, entry)["artifact_id"].to_pylist()) == {
            Path(entry["log"][2]["path"]).stem[9:]
        }
