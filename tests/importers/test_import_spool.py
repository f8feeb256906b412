"""Imports that are killed, and episodes that end the process which reads them."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from listed_recording import READ, write_listed

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.registry import import_recordings
from vlaw_assets.importers.spool import BatchWriter, Spool
from vlaw_assets.lake import ArtifactRef, Lake
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.upkeep import garbage
from vlaw_assets.lake.upkeep.verify import each, verify_ledger
from vlaw_models.errors import VlawError

BATCH = 4
PROGRAM = """
import sys
import listed_recording
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.registry import import_recordings
from vlaw_assets.lake import Lake
lake = Lake.open(sys.argv[1], create=True)
import_recordings(lake, "listed", sys.argv[2], Options(skip_bad=True), name="cups", run_id="killed")
"""


def imported(lake: Lake, folder: Path, **options: object) -> ArtifactRef:
    return import_recordings(lake, "listed", folder, Options(**options), name="cups", run_id="run")


def started(lake: Path, folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(lake), str(folder)], env=environment)


def batches(lake: Path) -> list[Path]:
    return sorted((lake / "imports").glob("*/*.json"))


def read_times(folder: Path) -> Counter[int]:
    return Counter(map(int, (folder / READ).read_text().split()))


def check_as_undisturbed(lake: Lake, folder: Path, tmp_path: Path) -> None:
    """The lake holds what an import without kills makes, once, and nothing else."""
    (ref,) = [ref for ref in lake.ledger.artifacts() if ref.asset == "recorded_episodes"]
    whole = imported(Lake.open(tmp_path / "whole", create=True), folder, skip_bad=True)
    assert (ref.content_digest, ref.num_rows) == (whole.content_digest, whole.num_rows)
    seeds = [episode.seed for episode in lake.read(ref).episodes()]
    assert seeds == sorted(set(seeds))
    assert (ref.metrics["episodes"], ref.metrics["findings_by_rule"]) == (
        whole.metrics["episodes"],
        whole.metrics["findings_by_rule"],
    )
    assert not (lake.paths.root / "imports").exists()
    assert not [str(problem) for problem in verify_ledger(lake, again=True)]
    assert not [problem for found in each(lake, [ref]) for problem in found]


@pytest.mark.slow
def test_a_killed_import_goes_on_behind_its_last_whole_batch(tmp_path):
    kinds = ["ok", "failed", "faulty", "ok"] * 4
    folder = write_listed(tmp_path / "cups", kinds, seconds=0.05, batch=BATCH)
    path, kills = tmp_path / "lake", 1
    for kill in range(kills):
        process = started(path, folder)
        while len(batches(path)) < 2 * kill + 1:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
    lake = Lake.open(path, create=False)
    assert not lake.ledger.artifacts(), "nothing before all of it"
    assert not garbage.find_garbage(lake, older_than_s=3600)
    imported(lake, folder, skip_bad=True)
    assert sum(read_times(folder).values()) <= len(kinds) + kills * (BATCH + 2), (
        "what is in a whole batch is not read again"
    )
    check_as_undisturbed(lake, folder, tmp_path)


@pytest.mark.slow
def test_thirty_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path):
    kinds = ["ok", "failed", "mute", "faulty", "unknown"] * 30
    folder, path = write_listed(tmp_path / "cups", kinds, seconds=0.05, batch=BATCH), tmp_path / "lake"
    draw, kills = random.Random(0), 0
    while kills < 30:
        process = started(path, folder)
        try:
            assert process.wait(draw.uniform(0.3, 4.0)) == 0
            kinds.append("ok")  # it was done: it has something to do again
            write_listed(folder, kinds, seconds=0.05, batch=BATCH)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert started(path, folder).wait() == 0
    lake = Lake.open(path, create=False)
    newest = lake.ledger.current("recorded_episodes", "cups|00")
    whole = imported(Lake.open(tmp_path / "whole", create=True), folder, skip_bad=True)
    assert newest.content_digest == whole.content_digest
    garbage.collect(lake, older_than_s=0)
    assert not [str(problem) for problem in verify_ledger(lake, again=True)]
    assert not [problem for found in each(lake, lake.ledger.artifacts()) for problem in found]


@pytest.mark.slow
def test_an_episode_that_ends_the_process_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("VLAW_IMPORT_SECONDS", "2")
    kinds = ["ok", "dies", "ok", "raises", "hungry", "failed", "hangs", "ok"]
    folder, lake = write_listed(tmp_path / "cups", kinds), Lake.open(tmp_path / "lake", create=True)
    with pytest.raises(VlawError, match="decoding ended: SIGSEGV") as caught:
        imported(lake, folder)
    assert "episode 1" in caught.value.where
    assert "--skip-bad" in caught.value.remedy
    ref = imported(lake, folder, skip_bad=True)
    assert [episode.seed for episode in lake.read(ref).episodes()] == [0, 2, 5, 7]
    found = {finding["episode"]: finding["value"] for finding in ref.metrics["first_findings"]}
    assert sorted(found) == [1, 3, 4, 6]
    assert "SIGSEGV" in found[1]
    assert "KeyError: 'odd'" in found[3]
    assert "VLAW_IMPORT_MEMORY_GB" in found[4]
    assert "VLAW_IMPORT_SECONDS" in found[6]


def test_limits_are_numbers(tmp_path, monkeypatch):
    folder, lake = write_listed(tmp_path / "cups", ["ok"]), Lake.open(tmp_path / "lake", create=True)
    for value in ("much", "0", "-1", "nan"):
        monkeypatch.setenv("VLAW_IMPORT_MEMORY_GB", value)
        with pytest.raises(VlawError, match="VLAW_IMPORT_MEMORY_GB"):
            imported(lake, folder)


def test_a_spool_that_nobody_came_back_to_is_garbage_and_one_at_work_is_not(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    left, busy = (lake.paths.imports / name for name in ("a" * 64, "b" * 64))
    for folder in (left, busy):
        folder.mkdir(parents=True)
        (folder / "batch-00000000.json").write_text("{}")
        os.utime(folder / "batch-00000000.json", (1e9, 1e9))
    lock = FileLock(lake.paths.locks / f"{busy.name}.lock")
    assert lock.acquire(holder="an import")
    os.utime(lock.path, (1.2e9, 1.2e9))
    assert [item.path for item in garbage.find_garbage(lake)] == [left]
    garbage.collect(lake)
    assert (left.exists(), busy.exists()) == (False, True)
    lock.release()


def test_the_same_import_is_at_work_once(tmp_path):
    paths = Lake.open(tmp_path / "lake", create=True).paths
    with (
        Spool.held(paths, "a" * 64, "first") as spool,
        pytest.raises(VlawError, match="the same import is at work: first"),
        Spool.held(paths, "a" * 64, "second"),
    ):
        pytest.fail("both are at work")
    assert not spool.folder.exists(), "an empty one goes"
    writer = BatchWriter(tmp_path, 0)
    writer.add(None, [])
    assert not list(tmp_path.glob("*.json"))
    writer.finish()
    writer.add(None, [])
    writer.add(None, [])
    writer.finish()
    assert [batch.end for batch in Spool(tmp_path).whole()] == [1, 3]
    del writer
    gc.collect()  # its lock
    BatchWriter(tmp_path, 1)
    assert [batch.end for batch in Spool(tmp_path).whole()] == [1], "what a killed import has made meanwhile goes"
