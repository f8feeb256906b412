"""What an episode reached: a lake whose answer is known by construction, and random ledgers against a brute-force
oracle."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from asking import vlaw
from factories import checkpoint, commit, sample_episodes, write_checkpoint
from smoke_place import smoke_place

from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lineage.impact import find_subject, impact
from vlaw_models.errors import VlawError

# ---- a lake known by construction: one iteration of VLAW, one of filtered BC on the same rollouts, one more of VLAW


def make(lake, asset, partition, parents, fill, kind="", excluded=(), listed=None):
    """One artifact; `fill(draft, read)` writes it, `read(role, by_row)` reads a parent. Returns its row."""

    def write(draft):
        if listed is not None:
            draft.leave_out(listed)
        fill(draft, lambda role, *, by_row=False: draft.read(parents[role], role, by_row=by_row))

    return commit(lake, asset, partition, parents, write, kind=kind, excluded=excluded, reads=())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """real: 4 episodes, numbers 1 and 3 succeed; imagined: one from each; number 1 of them is accepted by the judge."""
    lake = Lake.open(tmp_path_factory.mktemp("impact") / "lake")
    refs = SimpleNamespace(lake=lake)

    def base(draft, _read):
        checkpoint("base")(draft)

    def rollouts(draft, read):
        read("policy").checkpoint()
        refs.real_ids = draft.write_episodes(sample_episodes(4), purpose="rollout")

    def train_all(draft, read):
        read("data").episodes()
        checkpoint("world model")(draft)

    def imagine(draft, read):
        read("world_model").checkpoint()
        starts = read("starts", by_row=True).episodes(steps=[0])
        episodes = sample_episodes(4, seed=5)
        for episode, start in zip(episodes, starts, strict=True):
            episode.success, episode.start_episode_id = None, start.episode_id
        refs.imagined_ids = draft.write_episodes(episodes, purpose="imagined")

    def score(draft, read):
        episodes = read("imagined", by_row=True).episodes(frames=False)
        draft.write_scores(
            [
                {"episode_id": e.episode_id, "owner": refs.imagined.owner, "p_success": 0.9 if i == 1 else 0.1}
                for i, e in enumerate(episodes)
            ]
        )

    def members(draft, read, imagined=True):
        rows = [
            {"episode_id": e.episode_id, "owner": refs.real.owner, "weight": 1.0, "source": "real"}
            for e in read("real", by_row=True).episodes(frames=False, success=True)
        ]
        if imagined:
            read("imagined", by_row=True)
            rows += [
                {"episode_id": row["episode_id"], "owner": row["owner"], "weight": 1.0, "source": "imagined"}
                for row in read("scores", by_row=True).table("reward_scores").to_pylist()
                if row["p_success"] > 0.5
            ]
        draft.write_members(rows)

    def train_members(draft, read, roles):
        chosen = {row["episode_id"] for row in read("dataset").members().to_pylist() if row["weight"] > 0}
        for role in roles:
            read(role).episodes(episode_ids=chosen)
        checkpoint("policy")(draft)

    refs.base = make(lake, "base_policy", "", {}, base, kind="policy")
    refs.real = make(lake, "real_rollouts", "vlaw|01", {"policy": refs.base}, rollouts)
    refs.world = make(lake, "world_model", "vlaw|01", {"data": refs.real}, train_all)
    refs.imagined = make(
        lake, "imagined_rollouts", "vlaw|01", {"world_model": refs.world, "starts": refs.real}, imagine
    )
    refs.scores = make(lake, "reward_scores", "vlaw|01", {"imagined": refs.imagined}, score)
    data = {"real": refs.real, "imagined": refs.imagined, "scores": refs.scores}
    refs.dataset = make(lake, "training_set", "vlaw|01", data, members)
    refs.policy = make(
        lake,
        "policy",
        "vlaw|01",
        {"dataset": refs.dataset, **data},
        lambda draft, read: train_members(draft, read, ["real", "imagined"]),
    )
    # Filtered BC: nothing imagined, the very same rollouts (a pointer).
    refs.real_bc = make(lake, "real_rollouts", "bc|01", {"policy": refs.base}, rollouts)
    bc = {"real": refs.real_bc}
    refs.dataset_bc = make(lake, "training_set", "bc|01", bc, lambda draft, read: members(draft, read, imagined=False))
    refs.policy_bc = make(
        lake,
        "policy",
        "bc|01",
        {"dataset": refs.dataset_bc, **bc},
        lambda draft, read: train_members(draft, read, ["real"]),
    )
    # The second iteration of VLAW begins with the policy of the first; it trains on nothing of it but that policy.
    refs.real_2 = make(lake, "real_rollouts", "vlaw|02", {"policy": refs.policy}, rollouts)
    refs.real_ids, refs.real_ids_2 = [e.episode_id for e in lake.read(refs.real).episodes(frames=False)], refs.real_ids
    return refs


def names(found):
    return {item.ref.name: item.how for item in found}


def test_the_selection_on_the_edge_is_what_was_read(built):
    edges = {edge.role: edge for edge in built.lake.ledger.edge_rows(built.policy.artifact_id)}
    for role in ("real", "imagined"):
        assert (edges[role].scope, edges[role].selection, edges[role].selection_id) == (
            "whole",
            "members",
            built.dataset.artifact_id,
        )
    assert (edges["dataset"].scope, edges["dataset"].selection) == ("whole", "all")
    world = built.lake.ledger.edge_rows(built.world.artifact_id)
    assert [(edge.scope, edge.selection) for edge in world] == [("whole", "all")]
    by_row = {edge.role: edge.scope for edge in built.lake.ledger.edge_rows(built.dataset.artifact_id)}
    assert by_row == {"real": "rows", "imagined": "rows", "scores": "rows"}
    assert "reads" not in built.policy.versions, "a predicate says it: no rows"


def test_a_failure_reaches_the_vlaw_policy_through_the_world_model_and_the_baseline_not_at_all(built):
    found = impact(built.lake, built.real_ids[0])
    assert names(found) == {
        "world_model[vlaw|01]": "whole",
        "imagined_rollouts[vlaw|01]": "whole",
        "reward_scores[vlaw|01]": "whole",
        "training_set[vlaw|01]": "whole",
        "policy[vlaw|01]": "whole",
        "real_rollouts[bc|01]": "rows",
        "real_rollouts[vlaw|02]": "whole",
    }
    via = {item.ref.name: item.via for item in found}
    assert via["policy[vlaw|01]"] == "training_set[vlaw|01] as dataset"
    assert via["real_rollouts[bc|01]"] == "reuses real_rollouts[vlaw|01]"


def test_a_success_reaches_the_baseline_by_membership(built):
    found = impact(built.lake, built.real_ids[1])
    assert names(found).items() >= {"training_set[bc|01]": "rows", "policy[bc|01]": "whole"}.items()
    assert next(item.rows for item in found if item.ref.name == "training_set[bc|01]") == 1


def test_an_imagined_episode_reaches_its_score_and_the_policy_only_if_accepted(built):
    assert names(impact(built.lake, built.imagined_ids[2])) == {"reward_scores[vlaw|01]": "rows"}
    assert names(impact(built.lake, built.imagined_ids[1])) == {
        "reward_scores[vlaw|01]": "rows",
        "training_set[vlaw|01]": "rows",
        "policy[vlaw|01]": "whole",
        "real_rollouts[vlaw|02]": "whole",
    }


def test_an_artifact_reaches_all_that_was_made_of_it(built):
    assert names(impact(built.lake, "imagined_rollouts[vlaw|01]")) == {
        "reward_scores[vlaw|01]": "whole",
        "training_set[vlaw|01]": "whole",
        "policy[vlaw|01]": "whole",
        "real_rollouts[vlaw|02]": "whole",
    }
    assert names(impact(built.lake, built.dataset_bc.artifact_id)) == {"policy[bc|01]": "whole"}
    assert impact(built.lake, built.policy_bc.artifact_id[:10]) == []
    whole = {item.ref.name for item in impact(built.lake, "base_policy")}
    assert whole == {ref.name for ref in built.lake.ledger.artifacts()} - {"base_policy"}


def test_as_of_sees_only_what_was_there(built):
    past = built.lake.as_of(built.world.artifact_id)
    assert names(impact(past, built.real_ids[0])) == {"world_model[vlaw|01]": "whole"}
    with pytest.raises(VlawError, match="neither an episode nor an artifact"):
        impact(past, built.imagined_ids[0])


def test_an_unknown_subject_is_refused(built):
    for name in ("rollout-000000000000-00000", "policy[vlaw|07]", "o'brien"):
        with pytest.raises(VlawError, match="neither an episode nor an artifact") as caught:
            find_subject(built.lake, name)
        assert "episode_id from episodes" in caught.value.remedy


def test_some_other_episodes_are_listed_one_by_one(built):
    lake, chosen = built.lake, built.real_ids[2:3]

    def some(draft, read):
        read("data").episodes(episode_ids=chosen, frames=False)
        read("data").episodes(episode_ids=built.real_ids[:1], frames=False)
        write_checkpoint(draft.checkpoint_dir(), "some")

    ref = make(lake, "probe", "vlaw|09", {"data": built.real}, some)
    assert [edge.selection for edge in lake.ledger.edge_rows(ref.artifact_id)] == ["listed"]
    assert lake.read(ref).table("reads")["episode_id"].to_pylist() == sorted([*chosen, built.real_ids[0]])
    assert ref.num_rows == 0, "what was read is not what it holds"
    reached = [name for name in built.real_ids if "probe[vlaw|09]" in names(impact(lake, name))]
    assert reached == [built.real_ids[0], built.real_ids[2]]

    def table(draft, read):
        read("data").episodes(episode_ids=chosen, frames=False)
        read("data").table("episodes")
        write_checkpoint(draft.checkpoint_dir(), "table")

    ref = make(lake, "probe", "vlaw|08", {"data": built.real}, table, kind="table")
    assert [edge.selection for edge in lake.ledger.edge_rows(ref.artifact_id)] == ["all"], "a table is every row of it"


def test_the_stages_flag_their_reads(tmp_path_factory):
    place = smoke_place(tmp_path_factory)
    lake = place.lake
    edges = {
        asset: {edge.role: edge for edge in lake.ledger.edge_rows(lake.ledger.require(asset, "smoke|01").owner)}
        for asset in ("policy", "world_model", "imagined_rollouts", "reward_scores", "training_set")
    }
    assert {role for asset in edges for role, edge in edges[asset].items() if edge.scope == "rows"} == {
        "starts",
        "imagined_rollouts",
        "reward_scores",
        "real_rollouts_01",
    }
    dataset = lake.ledger.require("training_set", "smoke|01")
    members = set(lake.read(dataset).weighted(lake.ledger.require("real_rollouts", "smoke|01").owner))
    everything = {
        e.episode_id for e in lake.read(lake.ledger.require("real_rollouts", "smoke|01")).episodes(frames=False)
    }
    real = edges["policy"]["real_rollouts_01"]
    assert members != everything, "smoke must have a failure for this to say anything"
    assert (real.scope, real.selection, real.selection_id) == ("whole", "members", dataset.owner)
    assert (edges["world_model"]["real_rollouts_01"].scope, edges["world_model"]["real_rollouts_01"].selection) == (
        "whole",
        "all",
    )


def test_the_command_prints_the_table_and_one_line(built, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(built.lake.paths.root))
    result = vlaw("impact", built.imagined_ids[1])
    assert result.exit_code == 0, result.output
    assert (
        "the episode reached 4 artifacts, among them 1 datasets, 0 world models, 0 reward models, 1 policies"
        in result.output
    )
    assert f"held by imagined_rollouts[vlaw|01] ({built.imagined.artifact_id})" in result.output
    found = json.loads(vlaw("impact", built.imagined_ids[1], "--json").output)
    assert {(item["asset"], item["how"]) for item in found["reached"]} >= {
        ("policy", "whole"),
        ("training_set", "rows"),
    }
    past = json.loads(vlaw("impact", built.imagined_ids[1], "--json", "--as-of", built.scores.artifact_id).output)
    assert [item["asset"] for item in past["reached"]] == ["reward_scores"]
    assert vlaw("impact", "nobody").exit_code == 2


def test_the_quarantine_of_the_time_keeps_rows_out(built):
    """Another world model, made without the failure: the failure does not reach it, the other episodes do."""
    lake = built.lake
    listed = quarantine.add(lake, [built.real_ids[0]], why="test", by="me").ref

    def train(draft, read):
        assert [e.episode_id for e in read("data").episodes(frames=False)] == built.real_ids[1:]
        write_checkpoint(draft.checkpoint_dir(), "clean")

    ref = make(
        lake, "world_model", "clean|01", {"data": built.real}, train, excluded=[built.real_ids[0]], listed=listed
    )
    assert [(edge.role, edge.selection) for edge in lake.ledger.edge_rows(ref.artifact_id)] == [
        ("data", "all"),
        ("quarantine", "all"),
    ]
    assert "world_model[clean|01]" not in names(impact(lake, built.real_ids[0]))
    assert "world_model[clean|01]" in names(impact(lake, built.real_ids[1]))
    # What was imagined from it is kept out with it, and was not asked about by name.
    gone = [built.real_ids[0], built.imagined_ids[0]]

    def look(draft, read):
        assert [e.episode_id for e in read("data").episodes(frames=False)] == built.imagined_ids[1:]
        write_checkpoint(draft.checkpoint_dir(), "looked")

    make(lake, "probe", "clean|01", {"data": built.imagined}, look, excluded=gone, listed=listed)
    assert "probe[clean|01]" not in names(impact(lake, built.imagined_ids[0]))
    assert "probe[clean|01]" in names(impact(lake, built.imagined_ids[1]))
    with pytest.raises(VlawError, match="excluded, but by no list"):
        make(lake, "world_model", "unsaid|01", {"data": built.real}, train, kind="unsaid", excluded=[built.real_ids[0]])
