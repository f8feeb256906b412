"""What a lab drops into the inbox: taken once, with the policy that acted, and used by the iteration it is of."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from inbox_lab import EPISODES, EXPERIMENT, TASK, Lab
from small_loop import checkpoint, commit
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.inbox.folder import Inbox
from vlaw_assets.inbox.waiting import late, waiting
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.quarantine import add
from vlaw_assets.lineage.impact import impact
from vlaw_models.errors import VlawError

FIRST, SECOND = f"{EXPERIMENT}|01", f"{EXPERIMENT}|02"
OTHER = "20260302T120000Z-0a1b2c3d"


def test_a_finished_recording_is_taken_with_the_policy_that_acted(lab):
    lab.record("monday 1", 1)
    report = lab.take()
    [(name, ref)] = report.taken
    assert (name, report.refused, report.left, report.stopped) == ("monday 1", [], [], "")
    assert lab.content() == {".": [], "taken": ["monday 1"], "refused": []}
    assert ref.partition.startswith("monday_1-")
    rows = lab.lake.read(ref).table("episodes").to_pylist()
    policy = lab.made["base_policy"]
    assert {(row["policy"], row["task"], row["label_source"]) for row in rows} == {
        (policy.content_digest, TASK, "recorded")
    }
    assert len(rows) == EPISODES
    assert lab.lake.ledger.edges(ref.artifact_id) == [("policy", policy)]
    assert {found.ref.asset for found in impact(lab.lake, policy.artifact_id)} >= {"recorded_episodes"}


def test_a_recording_is_taken_once_under_whatever_name(lab):
    first = lab.record("one", 1)
    shutil.copytree(first, lab.inbox.root / "two")
    [(_, ref), (_, again)] = lab.take().taken
    assert ref == again
    shutil.copytree(lab.inbox.root / "taken/one", lab.inbox.root / "one")  # the copy comes later
    assert lab.take().taken == [("one", ref)]
    assert lab.content()["taken"] == ["one", "one-2", "two"]
    assert lab.recorded() == [ref]


@pytest.mark.slow
def test_another_description_of_a_recording_makes_its_new_version(lab):
    lab.record("one", 1)
    [(_, ref)] = lab.take().taken
    lab.record("one again", 1, note={"image_size": [16, 20]})
    [(_, new)] = lab.take().taken
    assert (new.partition, new == ref) == (ref.partition, False)
    assert waiting(lab.lake, lab.workplace)[0].recorded == {TASK: EPISODES}


def test_a_recording_that_has_grown_gives_its_new_episodes_only(lab):
    lab.record("one", 1, note={"episodes": "0-1"})
    [(_, ref)] = lab.take().taken
    whole = lab.record("grown", 1)
    [(_, error)] = lab.take().refused
    assert f"2 of its 3 episodes are in the lake already, in {ref.name}: number 0, 1" in error.what
    shutil.move(lab.inbox.root / "refused/grown", whole)
    note = whole / "recording.toml"
    note.write_text(note.read_text() + 'episodes = "2"\n')
    assert [ref.num_rows for _, ref in lab.take().taken] == [1]


def rolled_out(lab: Lab, partition: str = FIRST):
    return lab.lake.read(lab.make("real_rollouts", partition))


def test_an_iteration_is_made_of_its_recordings_once_it_has_enough(lab):
    lab.make("loop_state", FIRST)
    with pytest.raises(VlawError, match=f"waits for recordings: {TASK} 0 of 4") as caught:
        rolled_out(lab)
    assert "vlaw serve-policy lab 00" in caught.value.remedy
    lab.record("one", 1)
    lab.take()
    assert (waiting(lab.lake, lab.workplace)[0].text, waiting(lab.lake, lab.workplace)[0].complete) == (
        f"{TASK} 3 of 4",
        False,
    )
    lab.record("two", 2)
    lab.take()
    [item] = waiting(lab.lake, lab.workplace)
    assert (item.partition, item.text, item.complete) == (FIRST, f"{TASK} 6 of 4", True)
    handle = rolled_out(lab)
    copies, recorded = handle.table("episodes").to_pylist(), lab.recorded()
    held = [row for ref in recorded for row in lab.lake.read(ref).table("episodes").to_pylist()]
    assert [row["start_episode_id"] for row in copies] == [row["episode_id"] for row in held][:4]
    assert {row["policy"] for row in copies} == {lab.made["base_policy"].content_digest}
    assert [parent for _, parent in lab.lake.ledger.edges(handle.ref.artifact_id)] == recorded
    reached = {found.ref.name for found in impact(lab.lake, held[0]["episode_id"])}
    assert f"real_rollouts[{FIRST}]" in reached
    assert [item.partition for item in waiting(lab.lake, lab.workplace)] == [SECOND]


@pytest.mark.slow
def test_what_comes_late_is_kept_and_said_and_used_when_more_is_asked_for(lab):
    lab.make("loop_state", FIRST)
    lab.record("one", 1), lab.record("two", 2)
    lab.take()
    made = rolled_out(lab).ref
    lab.record("three", 3)
    [(_, ref)] = lab.take().taken
    assert [partition for _, partition in late(lab.lake)] == [FIRST]
    assert lab.make("real_rollouts", FIRST) == made, "a closed iteration stands on what it was made of"
    assert lab.make("real_rollouts", FIRST, force=True).content_digest == made.content_digest
    lab.experiment(rollouts={"episodes_per_task": 8})
    assert len(rolled_out(lab).table("episodes")) == 8
    assert (late(lab.lake), ref in [parent for _, parent in lab.lake.ledger.edges(rolled_out(lab).ref.owner)]) == (
        [],
        True,
    )


@pytest.mark.slow
def test_an_episode_in_quarantine_is_left_out_and_the_iteration_stays_complete(lab):
    lab.make("loop_state", FIRST)
    lab.record("one", 1), lab.record("two", 2)
    lab.take()
    bad = rolled_out(lab).table("episodes")["start_episode_id"][0].as_py()
    add(lab.lake, [bad], why="the camera fell", by="me")
    assert bad not in rolled_out(lab).table("episodes")["start_episode_id"].to_pylist()


@pytest.mark.slow
def test_labels_are_waited_for(lab):
    lab.experiment(rollouts={"episodes_per_task": 6})
    lab.make("loop_state", FIRST)
    lab.record("one", 1, labelled=False), lab.record("two", 2)
    lab.take()
    [item] = waiting(lab.lake, lab.workplace)
    assert (item.text, item.complete) == (f"{TASK} 6 of 6; 1 of them without an outcome (vlaw label)", False)
    judged = rolled_out(lab).table("episodes")["success"].to_pylist()
    assert sorted(judged, key=str) == [False, False, False, None, True, True], "for the world model, as of a recording"
    mute = next(
        row["episode_id"]
        for ref in lab.recorded()
        for row in lab.lake.read(ref).table("episodes").to_pylist()
        if row["success"] is None
    )
    label_episodes(lab.lake, [(mute, "success", "ann", "seen")])
    assert rolled_out(lab).table("episodes")["success"].to_pylist().count(True) == 3


def test_a_recording_is_of_the_iteration_that_starts_from_its_policy(lab):
    """The iteration before is done: recordings of its policy are late, those of the new policy are of the next one."""
    lab.make("loop_state", FIRST)
    lab.record("one", 1), lab.record("two", 2)
    lab.take()
    lab.make("real_rollouts", FIRST)
    ledger, base = lab.lake.ledger, lab.made["base_policy"]
    for kind in ("world_model", "reward_model"):
        commit(lab.lake, kind, FIRST, kind, {}, checkpoint(f"{kind} 1"))
    policy = commit(lab.lake, "policy", FIRST, "policy", {"policy": base}, checkpoint("policy 1"))
    lab.serve(policy, OTHER, iteration=1)
    lab.record("new", 3, note={"session": OTHER, "iteration": 2}), lab.record("old", 4)
    report = lab.take()
    said = {name: json.loads(ref.recipe_json)["session"]["iteration"] for name, ref in report.taken}
    assert said == {"new": 2, "old": 1}
    assert [partition for _, partition in late(lab.lake)] == [FIRST]
    [item] = waiting(lab.lake, lab.workplace)
    assert (item.partition, item.policy, item.recorded) == (SECOND, policy, {TASK: EPISODES})
    lab.record("wrong", 5, note={"session": OTHER, "iteration": 1})
    [(_, error)] = lab.take().refused
    assert "the session served policy[lab|01]" in error.what
    assert "iteration 01 of lab starts from base_policy" in error.what
    assert ledger.current("real_rollouts", SECOND) is None


def test_the_command_takes_in_and_says_what_there_is(lab, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(lab.lake.paths.root))
    monkeypatch.setenv("VLAW_RECIPES", str(lab.recipes))
    monkeypatch.setenv("DAGSTER_HOME", str(lab.root / "home"))
    lab.record("one", 1), lab.record("bad", 2, note={"format": "vhs"})
    (lab.inbox.root / "busy").mkdir()

    def run(*words: str):
        return CliRunner().invoke(app, ["inbox", *words])

    seen = run("--look")
    assert (seen.exit_code, lab.recorded()) == (0, [])
    assert "left: busy: still being written" in seen.output
    assert "left: one: finished" in seen.output
    done = run()
    assert done.exit_code == 0, done.output
    assert "taken: one, 3 episodes as recorded_episodes[one-" in done.output
    assert "refused: bad: there is no importer" in done.output
    assert f"{TASK} 3 of 4" in done.output
    found = json.loads(run("--json").stdout)
    assert [row["recorded"] for row in found["iterations"]] == [{TASK: 3}]
    assert [row["recording"] for row in found["refusals"]] == ["bad"]
    monkeypatch.setenv("VLAW_INBOX", str(lab.root))
    assert "the inbox is the lake, or a folder that it lies in" in run().stderr


@pytest.mark.parametrize("place", ["s3://bucket/inbox", ".", "..", "delta", "delta/inbox", "file"])
def test_a_place_that_is_no_inbox_is_refused(lab, place):
    (lab.root / "file").write_text("")
    root = lab.lake.paths.root
    path = place if "://" in place else str(lab.root / "file") if place == "file" else os.path.join(root, place)
    with pytest.raises(VlawError):
        Inbox.open(path, root, create=True)


def test_one_at_a_time(lab):
    from vlaw_assets.lake.durable import FileLock

    lock = FileLock(lab.lake.paths.locks / "inbox.lock")
    assert lock.acquire(holder="another")
    with pytest.raises(VlawError, match="another is at work"):
        lab.take()
    lock.release()
    assert lab.take().stopped == ""
