"""The lake under SIGKILL and with several processes: old or new, never half, and never two writers of one partition."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from factories import PARTITION, commit_all, fill, identity, sample_episodes

from vlaw_assets.lake import Lake
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.upkeep.garbage import collect, find_garbage
from vlaw_assets.lake.upkeep.verify import unsealed, verify, verify_ledger
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError

TESTS = Path(__file__).parents[1]


def start(*args: object, copy: Path | None = None) -> subprocess.Popen:
    """`copy`: where this process, as a host of its own, keeps its copies of a lake in a bucket."""
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(TESTS / "lake_worker.py"), *map(str, args)]
    own = {"PYTHONPATH": paths} | ({"VLAW_LAKE_COPY": str(copy)} if copy else {})
    return subprocess.Popen(command, env=os.environ | own, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Names of all write boundaries of an undisturbed run, and the digest it ends with."""
    folder = tmp_path_factory.mktemp("clean")
    process = start("killed", folder / "lake", -1, folder / "seen.json")
    assert process.wait() == 0, process.stderr.read()
    ledger = Lake.open(folder / "lake").ledger
    return json.loads((folder / "seen.json").read_text()), ledger.require("all", PARTITION).content_digest


@pytest.mark.slow
def test_killed_at_every_write_boundary(tmp_path, clean):
    boundaries, digest = clean
    assert boundaries[-4:] == ["before write:artifacts", "after write:artifacts", "before extend", "after extend"]
    row = len(boundaries) - 3
    first_commit = boundaries.index("after extend")
    assert len(boundaries) - first_commit > 16
    # What lies between the end of one write and the beginning of the next touches nothing: once is enough.
    points = [
        first_commit + 1,
        *(k for k in range(first_commit + 1, len(boundaries)) if boundaries[k].startswith("after")),
    ]
    for kill_at in points:
        path = tmp_path / f"lake-{kill_at}"
        process = start("killed", path, kill_at, tmp_path / "unused")
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
        lake = Lake.open(path)
        where = boundaries[kill_at]
        visible = lake.ledger.current("all", PARTITION)
        assert (visible is not None) == (kill_at >= row), where
        # A kill between the row and its seal leaves a row that is there and not sealed yet, which is no damage.
        assert len(unsealed(lake)) == (kill_at == row), where
        assert verify_ledger(lake) == [], where
        assert lake.ledger.require("base"), where
        with connect(lake) as query:
            count = query.execute("SELECT count(*) FROM episodes WHERE asset = 'all'").fetchall()[0][0]
        assert count == (3 if visible else 0), where

        again = commit_all(lake)
        assert again.content_digest == digest, where
        assert len(lake.read(again).episodes()) == len(sample_episodes()), where
        assert verify(lake, [again]) == verify_ledger(lake) == [], where
        assert lake.ledger.current("all", PARTITION) == again
        assert sum(ref.asset == "all" for ref in lake.ledger.artifacts()) == 1, where
        assert not any(list(folder.iterdir()) for folder in lake.paths.temporary.iterdir()), where
        if "after write:episodes" in boundaries[first_commit : kill_at + 1] and not visible:
            assert find_garbage(lake, older_than_s=0), where


def test_everything_is_on_the_disk_before_the_ledger_row(tmp_path, monkeypatch):
    """SIGKILL cannot show a missing fsync (the page cache survives it), so the calls themselves are watched."""
    events: list[str] = []
    fsync = os.fsync

    def watched_fsync(descriptor):
        events.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def watched_write(name, *args, **kwargs):
        events.append(f"begin {name}")
        return write(name, *args, **kwargs)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    lake = Lake.open(tmp_path / "lake")
    write = lake.tables.write
    monkeypatch.setattr(lake.tables, "write", watched_write)
    ref = commit_all(lake)
    row = len(events) - 1 - events[::-1].index("begin artifacts")
    synced, after = set(events[:row]), set(events[row:])

    data = [lake.paths.root / file["path"] for entry in ref.versions.values() for file in entry["files"]]
    names = [path.relative_to(lake.paths.root).parts[:2] for path in data]
    assert {("delta", "episodes"), ("delta", "steps"), ("delta", "edges"), ("lance", "frames.lance")} <= set(names)
    logs = {lake.paths.table(name) / "_delta_log" for name in ref.versions if name != "frames"}
    frames = lake.paths.frames
    bookkeeping = [
        *(frames / "_versions").glob("*.manifest"),
        frames / "_refs" / "tags" / f"artifact-{ref.artifact_id}.json",
    ]
    folders = {parent for path in [*data, *bookkeeping] for parent in (path.parent, path.parent.parent)}
    needed = [*data, *logs, *bookkeeping, *folders, lake.paths.checkpoints, lake.paths.root]
    assert [str(path) for path in needed if str(path) not in synced] == []
    # Log entries are flushed under temporary names, then linked: nobody sees one that is not on the disk.
    assert [log for log in logs if not any(path.startswith(f"{log}/_commit_") for path in synced)] == []
    # Checkpoint files are flushed under their temporary names, then renamed.
    draft = f"{lake.paths.drafts('all', PARTITION)}/{ref.artifact_id}/checkpoint"
    assert {f"{draft}/config.json", f"{draft}/sub/model.safetensors", f"{draft}/sub", draft} <= synced

    log = lake.paths.table("artifacts") / "_delta_log"
    newest = f"{lake.tables.open('artifacts').version():020d}.json"
    assert {str(log / newest), str(log)} <= after, "and the row itself before the block is left"
    assert any(path.startswith(f"{log}/_commit_") for path in after)


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
def test_forked_child_does_not_keep_the_lock(tmp_path):
    lock, other = FileLock(tmp_path / "x.lock"), FileLock(tmp_path / "x.lock")
    assert lock.acquire(holder="parent")
    release, ready = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(release[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert not other.acquire()
        lock.release()
        assert other.acquire(), "free although the child lives"
    finally:
        os.write(release[1], b"x")
        os.waitpid(child, 0)
        for descriptor in (*release, *ready):
            os.close(descriptor)


def test_second_run_of_a_partition_is_refused_until_the_first_is_gone(place, tmp_path):
    lake = place.open()
    process = start("hold", lake.paths.root, tmp_path / "ready")
    try:
        wait_for(tmp_path / "ready", process)
        with (
            pytest.raises(VlawError, match=f"already being materialized by run holder, pid {process.pid}"),
            lake.commit(asset="all", partition=PARTITION, identity=identity("x"), run_id="second"),
        ):
            pass
        assert lake.sweep() == [], "a draft at work is left alone"
        commit_all(lake, partition="other|01")  # another partition is free
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    held = lake.paths.drafts("all", PARTITION)
    assert list(held.rglob("config.json")), "SIGKILL leaves its temporary files"
    assert held in lake.sweep()
    assert not held.exists()
    if place.kind == "bucket":  # a lease outlives its holder by what it counts for
        lock = FileLock(lake.paths.lock("all", PARTITION))
        assert lock.held_since() is not None
        while lock.held_since() is not None:
            time.sleep(1)
    assert commit_all(lake).source_artifact_id  # the killed run's lock died with it; its twin is reused


def test_lock_holds_within_one_process(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    with lake.commit(asset="all", partition=PARTITION, identity=identity("x"), run_id="first") as draft:
        draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
        with (
            pytest.raises(VlawError, match="by run first"),
            lake.commit(asset="all", partition=PARTITION, identity=identity("y"), run_id="second"),
        ):
            pass
    assert [ref.run_id for ref in lake.ledger.artifacts()] == ["first"]


@pytest.mark.slow
def test_processes_on_different_partitions_all_succeed(place):
    """They also create the lake at the same time; in a bucket each is a host of its own."""
    path, commits = place.address, 4 if place.kind == "folder" else 2
    partitions = [f"e{number}|01" for number in range(4)]
    processes = [
        start("commits", path, partition, commits, copy=place.folder / str(number))
        for number, partition in enumerate(partitions)
    ]
    for process in processes:
        assert process.wait() == 0, process.stderr.read()
    lake = place.open()
    refs = lake.ledger.artifacts()
    assert verify_ledger(lake) == []
    assert len(refs) == len({ref.artifact_id for ref in refs}) == commits * len(partitions)
    for partition in partitions:
        mine = [ref for ref in refs if ref.partition == partition]
        assert [json.loads(ref.recipe_json)["n"] for ref in mine] == list(range(commits)), "commit order"
        for number, ref in enumerate(mine):
            handle = lake.read(ref)
            assert not handle.problems()
            expected = sample_episodes(2, seed=number)
            assert all((a.images == b.images).all() for a, b in zip(expected, handle.episodes(), strict=True))
    with connect(lake) as query:
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(2 * commits * len(partitions),)]
        assert query.execute("SELECT count(*) FROM artifacts WHERE is_current").fetchall() == [(len(partitions),)]


def test_what_lance_leaves_when_killed_inside_its_own_calls_is_garbage_and_nothing_else_is(tmp_path):
    """Names seen after kills at Lance's renames and links (benchmarks/crashes.py)."""
    lake = Lake.open(tmp_path / "lake")
    ref = commit_all(lake)
    left = [
        lake.paths.frames / name
        for name in (
            "data/.tmpYyRU8k",
            "_versions/.tmpEGPZhV",
            "_versions/18446744073709551605.manifest#1",
            "_refs/tags/artifact-cf6585acc96920f0-a5403d88.json.tmp.64f903136ece42f6959c3bed731a872f",
        )
    ]
    for path in left:
        path.write_bytes(b"half")
    assert {item.path for item in find_garbage(lake, older_than_s=0)} == set(left)
    with lake.commit(asset="all", partition="other|01", identity=identity("more"), run_id="run") as draft:
        fill(draft, sample_episodes(2, seed=3))
    assert set(left) <= {item.path for item in collect(lake, older_than_s=0)}
    assert not any(path.exists() for path in left)
    assert verify(lake, [ref, draft.ref]) == []
