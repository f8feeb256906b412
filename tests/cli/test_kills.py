"""SIGKILL at any moment of `vlaw run`, then `vlaw run` again: it completes, with nothing twice and nothing lost.

And SIGKILL at numbered write boundaries, a few here, any number with `benchmarks/crashes.py`. For the first, the recipe
is smoke's with what takes seconds made smaller. How far a run may come is drawn with a fixed seed in artifacts, not in
seconds, so that the test means the same on a busy machine.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from factories import write_recipe
from smoke_place import FOUNDATION_ASSETS, LOOP_ASSETS, new_place, smoke_place

from vlaw_assets.query import connect

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from common.crash_checks import glance  # noqa: E402  (a script's folder, not a package)
from common.crash_places import clone  # noqa: E402

KILLS = 10
SEED = 7
RECIPE = {
    "iterations": 1,
    "tasks": ["stack"],
    "rollouts": {"episodes_per_task": 2, "num_steps": 8},
    "world_model": {"steps": 1, "batch_size": 2},
    "reward_model": {"steps": 1, "batch_size": 2},
    "imagine": {"episodes_per_task": 2, "num_steps": 8, "batch_size": 1},
    "score": {"alpha": 1e-06},
    "policy": {"steps": 1, "batch_size": 2},
    "evaluation": {"episodes_per_task": 2, "num_steps": 8},
    "world_model_metrics": {"clips_per_task": 1, "num_steps": 8},
}


def start(place) -> subprocess.Popen:
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", "from vlaw_assets.cli import app; app()", "run", "-e", "small"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_ten_kills_then_complete(tmp_path):
    undisturbed, killed = new_place(tmp_path / "undisturbed"), new_place(tmp_path / "killed")
    for place in (undisturbed, killed):
        write_recipe(place.recipes, "small", None, **RECIPE)
    process = start(undisturbed)
    output = process.communicate()[0]
    assert process.returncode == 0, output

    draw, codes = random.Random(SEED), []
    for _ in range(KILLS):
        process = start(killed)
        # Some artifacts further than the attempt before, then somewhere inside the next one.
        for _ in range(draw.randrange(3)):
            next((line for line in process.stdout if " made " in line), "")
        time.sleep(draw.uniform(0.0, 2.0))
        process.kill()
        process.communicate()
        codes.append(process.returncode)
    assert codes.count(-9) == KILLS, f"a run was over before its kill: {codes}"
    process = start(killed)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert " made " in output, "the last kill left something to do"

    digests = [
        {(ref.asset, ref.partition): ref.content_digest for ref in place.lake.ledger.artifacts()}
        for place in (undisturbed, killed)
    ]
    assert digests[0] == digests[1], "the same content as without any kill"
    refs = killed.lake.ledger.artifacts()
    once = Counter((ref.asset, ref.partition) for ref in refs)
    assert set(once) == {*((asset, "") for asset in FOUNDATION_ASSETS), *((asset, "small|01") for asset in LOOP_ASSETS)}
    assert set(once.values()) == {1}, "no artifact was committed twice"
    with connect(killed.lake) as query:
        rows = query.execute(
            "select purpose, count(*), count(distinct episode_id) from episodes group by all"
        ).fetchall()
        steps = query.execute("select count(*), count(distinct (episode_id, step)) from steps").fetchall()[0]
    counts = {purpose: count for purpose, count, distinct in rows if count == distinct}
    assert counts == {
        "demonstration": 5,
        "co_training": 5,
        "rollout": 2,
        "validation": 1,
        "imagined": 2,
        "evaluation": 8,
        "replay": 2,
    }
    assert steps[0] == steps[1]
    for ref in refs:  # every byte that the ledger names is there
        handle = killed.lake.read(ref)
        if ref.location:
            handle.checkpoint()
        if "episodes" in ref.versions:
            assert len(handle.episodes(frames=True)) == ref.num_rows


@pytest.mark.slow
def test_kills_at_write_boundaries_break_no_invariant(tmp_path, tmp_path_factory):
    place, kills = smoke_place(tmp_path_factory), 3
    command = [
        sys.executable,
        "benchmarks/crashes.py",
        "--place",
        place.root,
        "--partition",
        "smoke|01",
        "--work",
        tmp_path / "work",
        "--assets",
        "real_rollouts",
        "--kills",
        kills,
        "--seed",
        1,
        "--strace",
        0.5,
        "--json",
        tmp_path / "kills",
    ]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "kills").read_text())
    assert len(found) >= kills
    assert sum(item["orphans"] for item in found) > 0, "a kill between data and ledger leaves something for gc"
    assert sum(item["polls"] for item in found) > kills, "the reader looked"


@pytest.mark.slow
def test_what_a_kill_must_not_do_would_be_seen(tmp_path, tmp_path_factory):
    """The checks after a kill, held against a lake that is broken on purpose."""
    clone(smoke_place(tmp_path_factory).root, tmp_path / "place")
    place = smoke_place(tmp_path_factory).__class__(tmp_path / "place")
    refs = place.lake.ledger.artifacts()
    before = {"artifacts": [ref.artifact_id for ref in refs]}
    assert glance(place.root, before, "real_rollouts") == {"visible": False, "violations": {}}
    lost = {"artifacts": [before["artifacts"][0], "gone", *before["artifacts"][1:]]}
    assert "I3" in glance(place.root, lost, "real_rollouts")["violations"]
    ref = place.lake.ledger.require("real_rollouts", "smoke|01")
    path = place.lake.paths.root / ref.versions["steps"]["files"][0]["path"]
    path.unlink()
    assert any(path.name in line for line in glance(place.root, before, "real_rollouts")["violations"]["I1"])
