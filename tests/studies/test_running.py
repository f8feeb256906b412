"""Running a study: what two make at once, failures, kills, and going on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_loop
from factories import edit_toml, write_recipe
from small_study import write_study
from smoke_place import new_place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.definitions import build_defs
from vlaw_assets.lake import Lake
from vlaw_assets.pipeline import driver
from vlaw_assets.recipes import study as studies
from vlaw_assets.studies.order import FAILED, SKIPPED, Order
from vlaw_assets.studies.record import hold_to_definition
from vlaw_assets.studies.running import Place, run_study

ROOT = Path(__file__).parents[2]


# ---- two at a time


def test_what_two_runs_would_both_make_is_made_once(tmp_path):
    """A process holds the claim; the second comer is told, waits until it dies, and goes on."""
    from vlaw_assets.lake import Identity
    from vlaw_assets.lake.claim import claimed

    lake = Lake.open(tmp_path / "lake")
    identity = Identity("policy", "code", "{}", ())
    code = (
        "import sys, time; from vlaw_assets.lake import Identity, Lake; from vlaw_assets.lake.claim import claimed\n"
        "with claimed(Lake.open(sys.argv[1]), Identity('policy', 'code', '{}', ()), holder='other', waiting=print):\n"
        "    print('holds', flush=True); time.sleep(600)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lake.paths.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert other.stdout.readline() == "holds\n"
    watched = []
    with claimed(lake, Identity("world_model", "code", "{}", ()), holder="us", waiting=watched.append):
        assert not watched, "another identity is free"

    def end_it(text):
        watched.append(text)
        other.kill()

    begun = time.monotonic()
    with claimed(lake, identity, holder="us", waiting=end_it):
        assert time.monotonic() - begun < 30
    other.wait()
    assert watched == ["waits for run other, which is making the same"]


# ---- running


class Watched:
    """A watcher."""

    def __init__(self):
        self.ended = {}

    def __call__(self, *progress):
        pass

    def ends(self, slot, ended):
        self.ended[slot.key] = ended.why

    def left(self, what):
        raise AssertionError(f"nobody else makes {what}")


@pytest.mark.slow
def test_a_partition_that_fails_or_whose_process_dies_does_not_stop_the_others(folder, tmp_path, monkeypatch):
    """The recipe changed since the study was begun; then, no partition's process even comes to that."""
    lake, study = Lake.open(tmp_path / "lake", create=True), studies.find_study("small", folder)
    hold_to_definition(lake, studies.definition(study, folder))
    edit_toml(folder / "one.toml", policy={"steps": 8})
    defs = build_defs(lake=lake.paths.root, recipes=folder)
    for name in driver.foundation_lacks(defs, lake):
        small_loop.commit(lake, name, "", name, {}, lambda draft: draft.set_metrics({}))
    place = Place(lake, str(folder), defs, ("policy",), jobs=2)
    for why in ("study small is not what it was when it was begun", "its process ended (exit code 1) before"):
        watched, order = Watched(), Order(study.members)
        results = run_study(place, order, watched)
        assert {key: ended.status for key, ended in results.items()} == dict.fromkeys(
            ("small-one-s0|01", "small-one-s1|01"), FAILED
        )
        assert all(text.startswith(why) for text in watched.ended.values()), watched.ended
        assert order.count(SKIPPED) == 3
        monkeypatch.setattr(sys, "executable", shutil.which("false"))


def test_arms_that_do_not_fit_are_all_named_before_any_begins(tmp_path):
    place = new_place(tmp_path)
    write_recipe(place.recipes, "good", policy={"steps": 1})
    write_recipe(place.recipes, "wide", None, extends="good", preset="small")
    write_recipe(place.recipes, "lone", None, extends="good", robot="droid", tasks=[])
    write_study(
        place.recipes, arms=[{"recipe": arm, "seeds": [0, 1], "iterations": 1} for arm in ("good", "wide", "lone")]
    )
    result = invoke(place, "study", "small")
    assert result.exit_code == 2, result.output
    for name in ("wide-s0", "wide-s1", "lone-s0", "lone-s1"):
        assert f"small-{name} is for" in result.stderr
    assert "small-good" not in result.stderr
    assert not (tmp_path / "lake").exists()
    assert invoke(place, "study", "small", "--only", "wide").exit_code == 2
    assert "small-lone" not in invoke(place, "study", "small", "--only", "wide").stderr


def prepared(root):
    """A place with the foundation of the smoke study."""
    place = new_place(root)
    write_recipe(place.recipes, "tiny", tasks=["stack"], world_model={"steps": 1}, policy={"steps": 1})
    write_recipe(place.recipes, "tiny_real", None, extends="tiny", imagine={"episodes_per_task": 0})
    write_study(
        place.recipes,
        arms=[
            {"recipe": "tiny", "seeds": [0], "iterations": 1},
            {"recipe": "tiny_real", "seeds": [0, 1], "iterations": 1},
        ],
    )
    return place


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The small study: begun, killed with -9 after its first partition, and gone on with. (place, after the kill,
    result)"""
    place = prepared(tmp_path_factory.mktemp("study"))
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    killed = subprocess.Popen(
        [sys.executable, "-c", "from vlaw_assets.cli import app; app()", "study", "small"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=place.root,
    )
    said = []
    while not any("[1 of 3] small-tiny-s0|01: made" in line for line in said):
        said.append(killed.stdout.readline())
        assert said[-1], said
    time.sleep(5)  # the next one is at work
    killed.kill()
    killed.wait()
    before = {ref.artifact_id for ref in place.lake.ledger.artifacts()}
    return place, before, invoke(place, "study", "small", "--json")


def invoke(place, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        for key, value in place.environment().items():
            patch.setenv(key, value)
        return CliRunner().invoke(app, list(arguments))


@pytest.mark.slow
def test_a_killed_study_goes_on_and_makes_nothing_again(ran):
    place, before, result = ran
    assert result.exit_code == 0, result.output
    watched = {row["partition"]: row for row in json.loads(result.stdout)["partitions"]}
    assert {key: row["found"] for key, row in watched.items()} == {
        "small-tiny-s0|01": True,
        "small-tiny_real-s0|01": False,
        "small-tiny_real-s1|01": False,
    }
    assert not {
        ref.asset
        for ref in place.lake.ledger.artifacts()
        if ref.artifact_id not in before and ref.partition == "small-tiny-s0|01"
    }
    shared = {"loop_state", "real_rollouts", "reward_model", "start_evaluation", "validation_rollouts"}
    assert shared <= set(watched["small-tiny_real-s0|01"]["reused"]), "the same seed shares what the first arm made"
    assert "episode_embeddings" not in {ref.asset for ref in place.lake.ledger.artifacts()}
    progress = place.lake.ledger.require("study_progress", "small-tiny_real-s0|01").metrics
    assert (progress["threads"], progress["trials"], progress["target"]) == (1, 2, None)
    assert place.lake.ledger.require("policy", "small-tiny-s0|01").metrics["made_with"]["threads"] == "1"


@pytest.mark.slow
def test_dagsters_own_processes_outlive_a_killed_parent(tmp_path):
    """Why a study starts its processes itself: with Dagster's, whoever goes on with a killed study would not be
    alone."""
    home, note = tmp_path / "home", tmp_path / "note"
    home.mkdir()
    with subprocess.Popen([sys.executable, Path(__file__).with_name("outliving.py"), home, note]) as parent:
        while not (note.exists() and note.read_text()):
            assert parent.poll() is None
            time.sleep(0.1)
        parent.kill()
    step = int(note.read_text())
    time.sleep(3)
    os.kill(step, 0)  # raises where there is no such process
    os.kill(step, signal.SIGKILL)


@pytest.mark.slow
def test_a_complete_study_is_found_and_its_plan_says_so(ran):
    place = ran[0]
    count = len(place.lake.ledger.artifacts())
    result = invoke(place, "study", "small")
    assert result.exit_code == 0, result.output
    assert "3 of 3 partitions are done (3 were before)" in result.stdout
    assert "artifacts made 0, reused 0" in result.stdout
    rows = json.loads(invoke(place, "study", "small", "--plan", "--json").stdout)["partitions"]
    assert [row["state"] for row in rows] == ["done"] * 3
    assert all(row["seconds"] > 0 and row["success"] is not None for row in rows)
    assert len(place.lake.ledger.artifacts()) == count


@pytest.mark.slow
def test_the_plan_of_a_changed_study_names_what_is_to_do_and_running_it_is_refused(ran):
    place = ran[0]
    file = place.recipes / "tiny_real.toml"
    edit_toml(file, policy={"steps": 2})
    try:
        plan = json.loads(invoke(place, "study", "small", "--plan", "--json").stdout)
        refused = invoke(place, "study", "small")
    finally:
        edit_toml(file, policy=None)
    assert {row["partition"]: row["state"] for row in plan["partitions"]}["small-tiny-s0|01"] == "done"
    stale = next(row for row in plan["partitions"] if row["partition"] == "small-tiny_real-s0|01")
    assert (stale["state"], stale["stale"]) == ("begun", ["policy"])
    assert {row["key"] for row in plan["changed"]} == {
        f"experiments.small-tiny_real-s{seed}.recipe.policy.steps" for seed in (0, 1)
    }
    assert refused.exit_code == 2
    assert "policy.steps: was 1, is 2" in refused.stderr


@pytest.mark.slow
def test_two_jobs_make_the_same_content_as_one(ran, tmp_path):
    """In worker processes, at the same time, from the same foundation."""
    place, _, _ = ran
    twin = dataclasses.replace(place, root=tmp_path / "twin")
    shutil.copytree(place.recipes, twin.recipes)
    result = invoke(twin, "study", "small", "--jobs", "2", "--json")
    assert result.exit_code == 0, result.output

    def content(lake):
        return {
            (ref.asset, ref.partition): ref.content_digest
            for ref in lake.ledger.artifacts()
            if ref.partition.startswith("small-")
        }

    assert content(twin.lake) == content(place.lake)
    identities = [ref.identity_digest for ref in twin.lake.ledger.artifacts() if not ref.source_artifact_id]
    assert len(identities) == len(set(identities)), "made once"


@pytest.mark.slow
def test_mistakes_are_messages_and_make_nothing(ran):
    place = ran[0]
    count = len(place.lake.ledger.artifacts())
    for arguments, what in (
        (("study", "nope"), "no study 'nope'"),
        (("study", "small", "--only", "thre"), "no arm thre"),
        (("study", "smoke", "--only", "smoke_real_only"), "leave it in --only"),
    ):
        result = invoke(place, *arguments)
        assert result.exit_code == 2, result.output
        assert what in result.stderr
    assert len(place.lake.ledger.artifacts()) <= count + 1, "at most the definition of the smoke study"
