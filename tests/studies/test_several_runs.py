"""Several runs of one study on one lake, on as many hosts: each partition is made once, by whoever comes first."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from factories import write_recipe
from object_store import Place as Store
from small_study import write_study
from smoke_place import new_place

from vlaw_assets.lake import Lake
from vlaw_assets.partitions import partition_of
from vlaw_assets.pipeline import driver
from vlaw_assets.recipes import study as studies
from vlaw_assets.studies import running
from vlaw_assets.studies.order import DONE, ELSEWHERE, FAILED, SKIPPED, Order
from vlaw_assets.studies.partition import Ended
from vlaw_assets.studies.record import State
from vlaw_assets.studies.running import Place, run_study

ROOT = Path(__file__).parents[2]
ALL = {"small-one-s0|01", "small-one-s1|01", "small-two-s0|01", "small-two-s0|02", "small-two-s0|03"}


class Watched:
    def __init__(self):
        self.left_to_others, self.results = [], {}

    def __call__(self, *_):
        pass

    def ends(self, slot, ended):
        self.results[slot.key] = ended

    def left(self, what):
        self.left_to_others.append(what)


class Pretended:
    """In the place of partitions' processes: each has the lock of its experiment for a moment, and makes nothing."""

    def __init__(self, monkeypatch):
        self.begun, self.made, self.faulty, self.together = [], [], set(), set()
        monkeypatch.setattr(running, "LOOK_S", 0.05)
        monkeypatch.setattr(running, "_in_a_process", self.run)
        monkeypatch.setattr(running, "state_of", self.state)
        monkeypatch.setattr(
            driver, "foundation_lacks", lambda *_, **__: [] if "foundation" in self.made else ["policy"]
        )

    async def run(self, place, experiment, iteration, _watcher):
        key = partition_of(experiment, iteration) if experiment else "foundation"
        self.begun.append(key)
        try:
            with driver.alone(place.lake, experiment or "foundation"):
                await asyncio.sleep(0.1)
                while key in self.together and not self.together <= set(self.begun):
                    await asyncio.sleep(0.01)
                if key in self.faulty:
                    return Ended(FAILED, "it fails")
                if key in self.made:  # by another run, between the look at the ledger and the lock
                    return Ended(DONE, reused=[key])
                self.made.append(key)
        except driver.AlreadyRunError as error:
            return Ended(ELSEWHERE, str(error))
        return Ended(DONE, made=[key])

    def state(self, _lake, member, iteration, *_, **__):
        missing = () if partition_of(member.experiment, iteration) in self.made else ("policy",)
        return State(missing=missing, stale=(), made=0, reused=0, seconds=0.0, outcome=None)


@pytest.fixture
def pretended(monkeypatch):
    return Pretended(monkeypatch)


def a_run(folder, tmp_path, jobs=1):
    lake = Lake.open(tmp_path / "lake", create=True)
    order, watched = Order(studies.find_study("small", folder).members), Watched()
    return lambda: run_study(Place(lake, str(folder), None, ("policy",), jobs), order, watched), order, watched


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_runs_make_each_partition_once(folder, tmp_path, pretended, jobs):
    pretended.together = {"small-one-s0|01", "small-one-s1|01"}  # neither ends before the other one has begun
    runs = [a_run(folder, tmp_path, jobs) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        ended = [done.result(timeout=60) for done in [pool.submit(run) for run, _, _ in runs]]
    assert Counter(pretended.made) == Counter(ALL | {"foundation"})
    for results, (_, order, watched) in zip(ended, runs, strict=True):
        assert {key: one.status for key, one in results.items()} == dict.fromkeys(ALL, DONE)
        assert order.count(DONE) == len(ALL)
        assert watched.results == results
        assert not set(watched.left_to_others) - ALL - {"the foundation"}
    made = [{key for key, one in results.items() if one.made} for results in ended]
    assert made[0] | made[1] == ALL
    assert not made[0] & made[1]
    assert jobs == 2 or (made[0] and made[1]), "both were at work"


def test_what_another_run_gave_up_is_made_here(folder, tmp_path, pretended):
    """Nobody has to say so: its lock is free, and the ledger has no such partition."""
    run, order, watched = a_run(folder, tmp_path)
    pretended.made.append("foundation")
    lake = Lake.open(tmp_path / "lake")
    with ThreadPoolExecutor(1) as pool:
        with driver.alone(lake, "small-one-s0"):
            ending = pool.submit(run)
            while "small-one-s1|01" not in pretended.made:
                assert not ending.done()
            assert watched.left_to_others == ["small-one-s0|01"], "it is said once"
            assert "small-two-s0|01" not in pretended.begun, "which waits for it"
        ending.result(timeout=60)
    assert Counter(pretended.made) == Counter(ALL | {"foundation"})
    assert order.count(DONE) == len(ALL)


def test_what_fails_everywhere_fails(folder, tmp_path, pretended):
    pretended.faulty.add("small-one-s0|01")
    runs = [a_run(folder, tmp_path) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        ended = [done.result(timeout=60) for done in [pool.submit(run) for run, _, _ in runs]]
    assert Counter(pretended.made) == Counter(["foundation", "small-one-s1|01"])
    for results, (_, order, _) in zip(ended, runs, strict=True):
        assert results["small-one-s0|01"].status == FAILED
        assert order.count(SKIPPED) == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_two_commands_share_a_study(s3, tmp_path, kind):
    """As two hosts: each with its own DAGSTER_HOME and, of a lake in a bucket, its own copies."""
    place, store = new_place(tmp_path), Store(kind, tmp_path)
    write_recipe(place.recipes, "tiny", tasks=["stack"], world_model={"steps": 1}, policy={"steps": 1})
    write_study(place.recipes, arms=[{"recipe": "tiny", "seeds": [0, 1], "iterations": 1}])

    def begin(host):
        environment = {
            **os.environ,
            **place.environment(),
            "VLAW_LAKE": store.address,
            "VLAW_LAKE_COPY": str(tmp_path / host),
            "DAGSTER_HOME": str(tmp_path / f"home-{host}"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        return subprocess.Popen(
            [sys.executable, "-c", "from vlaw_assets.cli import app; app()", "study", "small", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )

    hosts = [begin(host) for host in ("here", "there")]
    said = [host.communicate(timeout=1800) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    found = [{row["partition"]: row["found"] for row in json.loads(out)["partitions"]} for out, _ in said]
    assert set(found[0]) == set(found[1]) == {"small-tiny-s0|01", "small-tiny-s1|01"}
    assert sorted(one[key] for one in found for key in one) == [False, False, True, True], "each was made by one"
    ledger = store.open("third", create=False).ledger
    made = Counter((ref.asset, ref.partition) for ref in ledger.artifacts())
    assert set(made.values()) == {1}, made
