"""What recorded episodes are used for: kept ones for everything, the others for world models alone, or for nothing."""

from __future__ import annotations

import dataclasses
import json

import pytest
from one_stage import Bench
from small_loop import ALPHA, commit, episodes, foundation
from test_recordings import SOURCE, rolled_out

from vlaw_assets.lake import labels, quarantine
from vlaw_assets.lake.contents import contents_of
from vlaw_assets.lake.decisions import UNNAMED_TASK, as_stored, marked, stored, worst
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.rules import KEEP, WORLD_MODEL_ONLY
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.query import connect
from vlaw_assets.rebuild.staleness import ask, differences
from vlaw_assets.reports.episodes import around
from vlaw_models.errors import VlawError

KEY = "lab|01"


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    foundation(bench.lake)
    bench.recipe("lab", rollouts=SOURCE, iterations=1, score={"alpha": ALPHA})
    return bench


def record(bench: Bench):
    """An import of eight episodes: 0 to 3 are kept, 4 has no instruction, 5 no label, 6 neither, and 7 is of stack for
    world models alone by the importer's own rule. Returns their ids."""
    found = episodes(4, seed=5)
    made = [
        *found[:4],
        dataclasses.replace(found[4], task=UNNAMED_TASK, instruction=UNNAMED_TASK),
        dataclasses.replace(found[5], success=None),
        dataclasses.replace(found[6], task=UNNAMED_TASK, instruction=UNNAMED_TASK, success=None),
        dataclasses.replace(found[7], task="stack", success=True),
    ]
    for index in (4, 6, 7):
        made[index] = dataclasses.replace(made[index], extra=marked(made[index].extra, WORLD_MODEL_ONLY))
    names: list[str] = []

    def write(draft) -> None:
        names.extend(draft.write_episodes(made, purpose="rollout", world="arm", label_source="recorded"))

    commit(bench.lake, "recorded_episodes", "lab|00", "recorded_episodes", {}, write, recipe={"of": "lab"})
    return names


def copies(bench: Bench) -> dict[str, object]:
    """The recording that each episode of the first iteration is of -> its copy, with the outcome that stages see."""
    return {episode.start_episode_id: episode for episode in rolled_out(bench)}


def test_world_models_learn_from_all_and_policies_from_what_is_kept(bench):
    names = record(bench)
    found = copies(bench)
    assert set(found) == set(names)
    assert [found[name].success is None for name in names] == [False] * 4 + [True] * 4
    real = bench.lake.ledger.require("real_rollouts", KEY)
    won = sum(bool(episode.success) for episode in found.values())
    assert (real.metrics["judged"], real.metrics["successes"], real.metrics["recorded"]) == (4, won, 8)
    outcomes = {row["outcome"]: 0 for row in contents_of(bench.lake, real)["episodes"]}
    for row in contents_of(bench.lake, real)["episodes"]:
        outcomes[row["outcome"]] += row["count"]
    assert outcomes == {"success": won, "failure": 4 - won, "not judged": 4}
    bench.recipe("lab", rollouts=SOURCE, iterations=1, policy={"learner": "dsrl"})
    members = bench.lake.read(bench.make("training_set", KEY)).members()["episode_id"].to_pylist()
    copied = {episode.episode_id: name for name, episode in found.items()}
    assert {copied[name] for name in members} == set(names[:4]), "failures are learned from too, the others are none"
    handle = bench.lake.read(real)
    assert {e.start_episode_id for e in handle.source(judged=True)} == set(names[:4]), "what a judge learns from"
    assert len(handle.source()) == 8, "what a world model learns from"
    assert verify(bench.lake, bench.lake.ledger.artifacts()) == []


def test_other_stages_do_not_take_them(bench):
    names = record(bench)
    bench.recipe("lab", iterations=1, evaluation=SOURCE, world_model_metrics={"source": "recorded:lab"})
    bench.make("loop_state", KEY)
    for asset in ("start_evaluation", "validation_rollouts"):
        taken = {e.start_episode_id for e in bench.lake.read(bench.make(asset, KEY)).episodes(frames=False)}
        assert taken == set(names[:4]), asset


def test_a_person_changes_what_an_episode_is_used_for(bench):
    names = record(bench)
    copies(bench)
    made = bench.lake.ledger.require("real_rollouts", KEY)
    label_episodes(bench.lake, [(names[7], "keep", "ann", "its instruction is on the box")])
    (reason,) = differences(bench.lake, made, ask(bench.lake, "real_rollouts", KEY, recipes=bench.recipes))
    assert f"{names[7]} as recorded -> keep" in reason
    label_episodes(
        bench.lake,
        [
            (names[0], "world_model_only", "ann", "the wrong cup"),
            (names[1], "excluded", "ann", "a hand in the picture"),
            (names[5], "success", "ann", "it stands"),
        ],
    )
    found = copies(bench)
    assert {name for name, copy in found.items() if copy.success is not None} == {*names[2:4], names[5], names[7]}
    assert names[1] not in found
    assert found[names[7]].success is True, "as it was recorded"
    assert found[names[5]].success is True
    now = bench.lake.ledger.require("real_rollouts", KEY)
    rows = {row["episode_id"]: row["made_with"] for row in audit_of(bench.lake, now)["labels"]}
    assert rows == {names[0]: "world_model_only", names[5]: "success", names[7]: "keep"}
    assert [ref.asset for _, ref in bench.lake.ledger.edges(now.artifact_id)].count("labels") == 1
    with connect(bench.lake) as query:
        told = query.table(
            "SELECT episode_id, decision, success, recorded FROM episodes WHERE purpose = 'rollout' AND world = 'arm' "
            "AND artifact_id IN (SELECT owner_id FROM artifacts WHERE asset = 'recorded_episodes')"
        ).to_pylist()
        history = query.table("SELECT episode_id, label, in_force FROM label_history").to_pylist()
    decisions = {row["episode_id"]: row["decision"] for row in told}
    assert [decisions[name] for name in names] == [
        "world_model_only",
        "excluded",
        "keep",
        "keep",
        "world_model_only",
        "keep",
        "world_model_only",
        "keep",
    ]
    by_id = {row["episode_id"]: row for row in told}
    assert by_id[names[0]]["success"] is None
    assert by_id[names[0]]["recorded"] is not None
    assert all(row["in_force"] for row in history)
    on_pages = around.labelled(bench.lake, {names[0], names[7]})
    assert (on_pages[names[0]]["outcome"], on_pages[names[0]]["label"]) == ("not judged", "ann")
    assert "outcome" not in on_pages[names[7]], "as it was recorded"
    label_episodes(bench.lake, [(names[1], "keep", "bob", "it is gone in time"), (names[0], "keep", "bob", "the cup")])
    assert quarantine.quarantined(bench.lake) == {}
    assert set(copies(bench)) == set(names)


def test_a_copy_is_judged_by_itself(bench):
    """What is said of an episode of an iteration, and not of the recording it is of."""
    record(bench)
    copy = next(episode for episode in copies(bench).values() if episode.success)
    bench.recipe("lab", rollouts=SOURCE, iterations=1, policy={"learner": "dsrl"})
    before = bench.lake.read(bench.make("training_set", KEY)).members()["episode_id"].to_pylist()
    label_episodes(bench.lake, [(copy.episode_id, "world_model_only", "ann", "the lamp")])
    after = bench.lake.read(bench.make("training_set", KEY)).members()["episode_id"].to_pylist()
    assert set(before) - set(after) == {copy.episode_id}


def test_decisions_in_rows():
    assert worst([]) == worst([KEEP]) == KEEP
    assert worst([KEEP, "excluded", WORLD_MODEL_ONLY]) == "excluded"
    for text in ('"decision":"world_model_only"', {"a": '"decision":"world_model_only"'}):
        extra = json.dumps({"note": text}, separators=(",", ":"))
        assert stored(extra) == KEEP
        assert as_stored(True, extra) is True
    extra = json.dumps(marked({"note": "x"}, WORLD_MODEL_ONLY), separators=(",", ":"))
    assert as_stored(True, extra) is None
    assert marked(json.loads(extra), KEEP) == {"note": "x"}


def test_bad_decisions_change_nothing(bench):
    (name, *_) = record(bench)
    with pytest.raises(VlawError, match="no label"):
        label_episodes(bench.lake, [(name, "world_model", "ann", "x")])
    with pytest.raises(VlawError, match="a reason is missing"):
        label_episodes(bench.lake, [(name, "excluded", "ann", " ")])
    with pytest.raises(VlawError, match="no artifact holds"):
        label_episodes(bench.lake, [(name, "excluded", "ann", "x"), ("nobody", "keep", "ann", "x")])
    assert labels.latest(bench.lake) is quarantine.latest(bench.lake) is None
