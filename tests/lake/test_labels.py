"""Labels that people give: the list with its history, what an artifact is made with, and bad input that changes
nothing."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from asking import ask, at
from factories import commit
from known_lake import episode, known
from test_lake_crashes import start

from vlaw_assets.lake import Identity, Lake, labels
from vlaw_assets.lake.contents import contents_of
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.upkeep.garbage import find_garbage
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    k = known(Lake.open(tmp_path_factory.mktemp("labels") / "lake"))
    assert not k.lake.paths.table("labels").exists(), "made with the first label"
    return k


@pytest.fixture
def k(pristine, tmp_path):
    """The known lake, a copy of one's own."""
    shutil.copytree(pristine.lake.paths.root, tmp_path / "lake")
    mine = type(pristine)(Lake.open(tmp_path / "lake"))
    mine.refs, mine.ids = pristine.refs, pristine.ids
    return mine


def trained(k, asset="training_set", partition="vlaw|09", said=None):
    """An artifact that reads the rollouts of iteration 1 by what people say, and has all of them as members."""
    identity, listed = labels.with_labels(k.lake, Identity(asset, "c", "{}", ()), [k.refs["real_rollouts 1"]])

    def write(draft):
        if listed is not None:
            draft.label_by(listed)
        held = draft.read(k.refs["real_rollouts 1"], "real").episodes(frames=False)
        if said is not None:
            said.update({episode.episode_id: episode.success for episode in held})
        owner = k.refs["real_rollouts 1"].artifact_id
        draft.write_members(
            [{"episode_id": e.episode_id, "owner": owner, "weight": 1.0, "source": "real"} for e in held]
        )

    parents = {"real": k.refs["real_rollouts 1"]}
    return commit(k.lake, asset, partition, parents, write, labels=dict(identity.labels), reads=())


def evaluated(k):
    """An evaluation of one trial, that was won."""

    def write(draft):
        k.episodes("x", "evaluation", [episode("stack", "success", 77)])(draft)
        draft.write_evaluations(
            [{"task": task, "trials": 1, "successes": 1, "value": 1.0} for task in ("stack", "all")]
        )

    commit(k.lake, "policy_evaluation", "vlaw|08", write=write)


def counted(lake, ref, what):
    return {
        outcome: sum(row["count"] for row in contents_of(lake, ref)[what] if row["outcome"] == outcome)
        for outcome in ("success", "failure")
    }


def test_the_latest_label_holds_and_history_stays(k):
    won, lost = k.ids["r0"], k.ids["r1"]
    first = label_episodes(k.lake, [(won, "failure", "ann", "it slid"), (lost, "failure", "ann", "yes")])
    assert (first.changed, first.unchanged) == ((won, lost), ())
    again = label_episodes(k.lake, [(won, "failure", "ann", "it slid")])
    assert (again.ref, again.changed, again.unchanged) == (first.ref, (), (won,))
    label_episodes(k.lake, [(won, "success", "bob", "it came back"), (won, "near_success", "bob", "almost")])
    held = labels.in_force(k.lake)
    assert {name: (row["label"], row["who"]) for name, row in held.items()} == {
        won: ("near_success", "bob"),
        lost: ("failure", "ann"),
    }
    assert [row["label"] for row in labels.history(k.lake)] == ["failure", "failure", "success", "near_success"]
    assert labels.outcomes(k.lake) == {won: False, lost: False}, "a near success is a failure"
    owner = k.refs["real_rollouts 1"].artifact_id
    found = {name: said for name, said in labels.corrections(k.lake).items() if name == owner}
    assert found == {owner: {won: False}}, "what was recorded so needs no correction"
    assert labels.in_force(k.lake.as_of(first.ref.artifact_id))[won]["why"] == "it slid"
    before = k.lake.as_of(k.lake.ledger.sequence(first.ref.artifact_id) - 1)
    assert (labels.in_force(before), labels.latest(before)) == ({}, None)
    assert verify(k.lake, k.lake.ledger.artifacts()) == []
    assert verify_ledger(k.lake) == []
    assert find_garbage(k.lake, older_than_s=0) == []


def test_what_is_made_by_them_and_what_was_made_before(k):
    won = k.ids["r0"]
    old, said = trained(k), {}
    assert counted(k.lake, old, "members") == {"success": 2, "failure": 4}
    label_episodes(k.lake, [(won, "near_success", "ann", "slid"), (k.ids["d0"], "failure", "ann", "melts")])
    new = trained(k, said=said)
    assert new.identity_digest != old.identity_digest
    assert not said[won], "the handle gives the label"
    for what in ("members", "reads"):
        assert counted(k.lake, old, what) == {"success": 2, "failure": 4}, what
        assert counted(k.lake, new, what) == {"success": 1, "failure": 5}, what
    assert [edge.role for edge in k.lake.ledger.edge_rows(new.artifact_id)] == ["real", "labels"]
    assert verify(k.lake, [old, new]) == [], "and counted again they are the same"
    rows = audit_of(k.lake, new)["labels"]
    assert [(row["episode_id"], row["made_with"], row["label"], row["read_by"]) for row in rows] == [
        (won, "near_success", "near_success", [new.name])
    ]
    assert [row["made_with"] for row in audit_of(k.lake, old)["labels"]] == ["as recorded"]
    label_episodes(k.lake, [(won, "success", "bob", "no")])
    assert trained(k).source_artifact_id == old.artifact_id, "labelled back: what was there is used"
    with pytest.raises(VlawError, match="label_by"):
        commit(k.lake, "probe", parents={"real": k.refs["real_rollouts 1"]}, labels={won: False})
    with connect(k.lake) as query:
        reads = query.table(
            "SELECT child_id, success FROM episode_reads WHERE episode_id = $e AND child_id IN ($old, $new)",
            {"e": won, "old": old.artifact_id, "new": new.artifact_id},
        ).to_pylist()
    assert {row["child_id"]: row["success"] for row in reads} == {old.artifact_id: True, new.artifact_id: False}


def test_views_and_questions_go_by_the_label_in_force(k):
    with connect(k.lake) as query:
        assert ask(query, "label_disagreements") == []
        assert query.table("SELECT * FROM label_history").num_rows == 0
        before = sum(row["successes"] for row in ask(query, "success_per_task", purpose="rollout"))
    evaluated(k)
    label_episodes(k.lake, [(k.ids["r0"], "success", "bob", "fine"), (k.ids["r0"], "failure", "ann", "slid")])
    label_episodes(k.lake, [(k.ids["d0"], "near_success", "ann", "melts"), (k.ids["x0"], "failure", "ann", "x")])
    with connect(k.lake) as query:
        row = query.table("SELECT * FROM episodes WHERE episode_id = $e", {"e": k.ids["r0"]}).to_pylist()[0]
        assert (row["success"], row["recorded"], row["label"]) == (False, True, "failure")
        history = query.table("SELECT label, who, in_force FROM label_history ORDER BY position").to_pylist()
        assert [(row["who"], row["in_force"]) for row in history] == [
            ("bob", False),
            ("ann", True),
            ("ann", True),
            ("ann", True),
        ]
        found = {(row["against"], row["episode_id"], row["says"][:8]) for row in ask(query, "label_disagreements")}
        judge = k.refs["reward_model 1"].content_digest[:8]
        assert found == {
            ("recorded", k.ids["r0"], "world: s"),
            ("recorded", k.ids["x0"], "world: s"),
            ("person", k.ids["r0"], "bob: suc"),
            ("judge", k.ids["d0"], judge),
        }
        after = sum(row["successes"] for row in ask(query, "success_per_task", purpose="rollout"))
        assert before - after == 2, "two experiments share the rollouts"
        marked = query.table("SELECT DISTINCT asset, task FROM evaluations WHERE corrected_trials = 1").to_pylist()
        assert sorted(row["task"] for row in marked) == ["all", "stack"]
    with connect(k.lake, as_of=k.refs["policy 1"].artifact_id) as query:
        assert query.table("SELECT * FROM episodes WHERE label IS NOT NULL").num_rows == 0


BAD = {
    "unknown episode": ("nobody", "success", "a", "b", "no artifact holds an episode 'nobody'"),
    "unknown label": ("r0", "SUCCESS", "a", "b", "'SUCCESS' is no label"),
    "nobody says so": ("r0", "success", " ", "b", "who says that"),
    "no reason": ("r0", "success", "a", "", "a reason is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_changes_nothing(pristine, case):
    name, label, who, why, what = BAD[case]
    lake, count = pristine.lake, len(pristine.lake.ledger.artifacts())
    good = (pristine.ids["r1"], "success", "a", "b")
    with pytest.raises(VlawError, match=what) as error:
        label_episodes(lake, [good, (pristine.ids.get(name, name), label, who, why)])
    assert error.value.where == "label 2 of 2"
    assert len(lake.ledger.artifacts()) == count
    assert labels.latest(lake) is None


def test_two_people_at_the_same_time(k, monkeypatch):
    real = type(k.lake).commit

    def late(self, **options):
        monkeypatch.setattr(type(k.lake), "commit", real)
        label_episodes(Lake.open(k.lake.paths.root), [(k.ids["r1"], "success", "them", "theirs")])
        return real(self, **options)

    monkeypatch.setattr(type(k.lake), "commit", late)
    with pytest.raises(VlawError, match="changed by somebody else"):
        label_episodes(k.lake, [(k.ids["r0"], "failure", "me", "mine")])
    assert [row["who"] for row in labels.history(k.lake)] == ["them"]


def test_the_command_and_its_file(k, monkeypatch, tmp_path):
    vlaw = at(
        monkeypatch,
        tmp_path,
        {"VLAW_LAKE": str(k.lake.paths.root), "DAGSTER_HOME": str(tmp_path), "VLAW_RECIPES": str(tmp_path)},
    )
    file, (a, b) = tmp_path / "labels.csv", (k.ids["r0"], k.ids["r1"])
    head = "why,episode_id,label,who\n"
    for text, what in {
        "": "line 1",
        "episode_id,label\n": "line 1",
        head: "there is no label",
        f'{head}"two\nlines",{a},success,ann\nx,{b},won,ann\n': "line 4",
        f"{head}x,{a},success,ann\n\nx,nobody,success,ann\n": "line 4",
        f"{head}x,{a},success\n": "line 2",
        f"{head}x,{a},success, \n": "line 2",
    }.items():
        file.write_text(text)
        result = vlaw("label", "--csv", str(file), code=2)
        assert what in result.stderr.replace("\n", ""), (text, result.stderr)
    file.write_bytes(b"\xff\xfe\x00")
    assert "it is not text" in vlaw("label", "--csv", str(file), code=2).stderr
    assert labels.latest(k.lake) is None, "nothing half written"
    assert vlaw("label", a, code=2).stderr
    assert "the past cannot be changed" in vlaw("label", a, "failure", "--why", "x", "--as-of", "#3", code=2).stderr

    file.write_text(
        f'\ufeff{head}"slid, and\nfell",{a},near_success,ann\r\n,,,\n'.replace(",,,\n", ""), encoding="utf-8"
    )
    printed = vlaw("label", "--csv", str(file), code=0).output
    assert f"{a}: near_success" in printed
    found = json.loads(vlaw("label", a, "failure", "--who", "bob", "--why", "no", "--json", code=0).stdout)
    assert (found["changed"], [row["who"] for row in found["labels"]]) == ([a], ["bob"])
    listed = json.loads(vlaw("label", "--history", "--json", code=0).stdout)["labels"]
    assert [(row["label"], row["why"]) for row in listed] == [("near_success", "slid, and\nfell"), ("failure", "no")]
    assert "labelled so already: 1" in vlaw("label", a, "failure", "--who", "bob", "--why", "no", code=0).output
    assert a in vlaw("label", code=0).output


@pytest.mark.slow
def test_killed_at_every_write_boundary(pristine, tmp_path):
    ids = [pristine.ids["r0"], pristine.ids["r3"]]
    shutil.copytree(pristine.lake.paths.root, tmp_path / "whole")
    process = start("label", tmp_path / "whole", -1, tmp_path / "seen.json", *ids)
    assert process.wait() == 0, process.stderr.read()
    boundaries = json.loads((tmp_path / "seen.json").read_text())
    row = boundaries.index("after write:artifacts")
    assert "before write:labels" in boundaries
    for kill_at, where in enumerate(boundaries):
        path = tmp_path / f"lake-{kill_at}"
        shutil.copytree(pristine.lake.paths.root, path)
        process = start("label", path, kill_at, tmp_path / "unused", *ids)
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
        lake = Lake.open(path)
        assert set(labels.in_force(lake)) == (set(ids) if kill_at >= row else set()), where
        assert verify_ledger(lake) == [], where
        label_episodes(lake, [(ids[0], "near_success", "bob", "again")])
        assert labels.in_force(lake)[ids[0]]["who"] == "bob", where
        assert len(labels.history(lake)) == (3 if kill_at >= row else 1), where
        assert verify(lake, lake.ledger.artifacts()) == [], where
