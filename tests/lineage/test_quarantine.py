"""Quarantine: the list and its commands, and a real smoke iteration made again without an episode, and with it
again."""

from __future__ import annotations

import json
from functools import partial

import pytest
from asking import at
from factories import write_recipe
from smoke_place import UP_TO_POLICY, smoke_copy, smoke_place

from vlaw_assets.lake import Identity, frames, quarantine
from vlaw_assets.lake.source import LanceEpisodes
from vlaw_assets.lineage.impact import impact
from vlaw_assets.pipeline import mirror
from vlaw_models.errors import VlawError

KEY = "smoke|01"
DIGEST = "312034cdef6ba33461352b6c55082b26bdfd1cde1c3f80a7821af2fc550d0f98"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the smoke place as it was made."""
    smoke_place(tmp_path_factory)
    return smoke_copy(tmp_path_factory.mktemp("quarantine") / "place")


@pytest.fixture
def vlaw(place, monkeypatch, tmp_path):
    """A command, which is to end in 0 or in `code`."""
    return partial(at(monkeypatch, tmp_path, place.environment()), code=0)


def digests(lake):
    return {ref.name: ref.content_digest for ref in lake.ledger.artifacts() if ref.partition == KEY}


def success_of(place):
    """A successful real rollout: it is a member of the training set, and the start of imagined episodes."""
    episodes = place.lake.read(place.lake.ledger.require("real_rollouts", KEY)).episodes(frames=False, success=True)
    return episodes[0].episode_id


def test_the_identity_without_exclusions_is_the_old_one():
    parts = {"kind": "k", "code": "c", "recipe": "{}", "parents": (("a", "1"), ("b", "2"))}
    plain = Identity(**parts)
    assert plain.digest == DIGEST, "as it was before there was a quarantine: lakes of that time keep their artifacts"
    assert (
        Identity(**parts, excluded=("y", "x", "y")).digest
        == Identity(**parts, excluded=("x", "y")).digest
        != plain.digest
    )


def test_unknown_episodes_and_missing_reasons_change_nothing(vlaw, place):
    before = len(place.lake.ledger.artifacts())
    result = vlaw("quarantine", success_of(place), "rollout-ffffffffffff-00000", "--why", "x", code=2)
    assert "no artifact holds an episode rollout-ffffffffffff-00000" in result.stderr
    assert "a reason is missing" in vlaw("quarantine", success_of(place), code=2).stderr
    assert len(place.lake.ledger.artifacts()) == before
    assert quarantine.quarantined(place.lake) == {}


@pytest.mark.slow
def test_an_iteration_without_an_episode_and_with_it_again(vlaw, place, monkeypatch):
    lake, bad = place.lake, success_of(place)
    before, first = digests(lake), {ref.name: ref for ref in lake.ledger.artifacts() if ref.partition == KEY}
    moment = lake.ledger.artifacts()[-1].artifact_id
    reached = {item.ref.name for item in impact(lake, bad) if item.is_current}

    printed = vlaw("quarantine", bad, "--why", "the camera had slipped", "--by", "ann").output
    assert f"{bad}: in quarantine" in printed
    assert "to rebuild: smoke|01" in printed
    assert "it has used what is now in quarantine" in printed
    again = vlaw("quarantine", bad, "--why", "twice").output
    assert f"{bad}: is in quarantine already: the camera had slipped (ann" in again
    found = json.loads(vlaw("status", "--json").stdout)
    stale = {f"{asset}[{row['partition']}]" for row in found for asset in row["outdated"] if row["partition"] == KEY}
    assert stale == {name for name in reached if name.endswith(f"[{KEY}]")}, "stale is what the episode reached"
    assert {"world_model[smoke|01]", "policy[smoke|01]", "training_set[smoke|01]"} <= stale
    assert not {"real_rollouts[smoke|01]", "start_evaluation[smoke|01]", "loop_state[smoke|01]"} & stale
    listed = json.loads(vlaw("quarantine", "--json").stdout)
    assert [(row["episode_id"], row["by"]) for row in listed["quarantine"]] == [(bad, "ann")]

    read = set()
    with monkeypatch.context() as watching:
        _note_episodes_read(watching, read)
        printed = vlaw("run", "--rebuild-stale", "--experiment", "smoke").output
    assert "nothing is stale" in printed
    assert read, "the stages read frames"
    assert bad not in read, "no frame of it was decoded"
    lake = place.lake
    now = {ref.name: ref for ref in lake.ledger.artifacts() if ref.partition == KEY}
    members = lake.read(now["training_set[smoke|01]"]).members()["episode_id"].to_pylist()
    assert members
    assert bad not in members
    imagined = lake.read(now["imagined_rollouts[smoke|01]"]).episodes(frames=False)
    assert imagined
    assert bad not in {episode.start_episode_id for episode in imagined}
    scored = lake.read(now["reward_scores[smoke|01]"]).table("reward_scores")["episode_id"].to_pylist()
    assert set(scored) == {episode.episode_id for episode in imagined}
    after = digests(lake)
    for asset in ("world_model", "imagined_rollouts", "training_set", "policy"):
        assert after[f"{asset}[{KEY}]"] != before[f"{asset}[{KEY}]"], asset
    untouched = [name for name in first if name not in stale]
    assert all(now[name].artifact_id == first[name].artifact_id for name in untouched), (
        "what did not depend on it stays"
    )
    assert now["world_model[smoke|01]"].metrics["excluded"] == 1
    edges = {edge.role: edge for edge in lake.ledger.edge_rows(now["world_model[smoke|01]"].artifact_id)}
    assert lake.ledger.get(edges["quarantine"].parent).asset == "quarantine"
    current = {item.ref.name for item in impact(lake, bad) if item.is_current and item.ref.partition == KEY}
    assert current == set(), "nothing current stands on it"
    then = {item.ref.name for item in impact(lake.as_of(moment), bad) if item.is_current}
    assert then == reached, "as of before, everything does"
    assert quarantine.quarantined(lake.as_of(moment)) == {}

    printed = vlaw("quarantine", bad, "--release", "--why", "it had not").output
    assert f"{bad}: released" in printed
    assert "no longer in quarantine" in printed
    assert f"{bad}: is not in quarantine" in vlaw("quarantine", bad, "--release").output
    printed = vlaw("run", "--rebuild-stale", "--experiment", "smoke").output
    assert "made 0" in printed
    assert digests(place.lake) == before, "the same bytes as before it was ever quarantined"
    done = place.run("iteration", KEY)
    assert done.made == ()


@pytest.mark.slow
def test_what_an_episode_did_not_reach_is_reused_although_a_parent_holds_it(vlaw, place):
    """Nothing imagined: a failure reaches the judge, and neither dataset nor policy, which have it among their
    parents."""
    write_recipe(place.recipes, "bc", imagine={"episodes_per_task": 0})
    assets = [*UP_TO_POLICY, "validation_rollouts", "episode_embeddings"]
    place.run("iteration", "bc|01", only=assets)
    lake = place.lake
    before = {asset: lake.ledger.require(asset, "bc|01") for asset in assets}
    failure = lake.read(before["real_rollouts"]).episodes(frames=False, success=False)[0].episode_id
    reached = {item.ref.asset: (item.how, item.rows) for item in impact(lake, failure) if item.ref.partition == "bc|01"}
    assert {asset: how for asset, (how, _) in reached.items()} == {
        "real_rollouts": "rows",
        "reward_model": "whole",
        "episode_embeddings": "rows",
    }
    assert reached["episode_embeddings"] == ("rows", 1), "its own vector"
    quarantine.add(lake, [failure], why="test", by="me")
    try:
        done = place.run("iteration", "bc|01", only=assets)
        after = {asset: place.lake.ledger.require(asset, "bc|01") for asset in assets}
        # The judge is another one, and still has nothing to score; the vectors are one fewer.
        assert set(done.made) == {"reward_model", "reward_scores", "episode_embeddings"}
        assert {asset for asset in assets if after[asset].content_digest != before[asset].content_digest} == {
            "reward_model",
            "episode_embeddings",
        }
        vectors = [sum(made["episode_embeddings"].metrics["embedded"].values()) for made in (before, after)]
        assert vectors[1] == vectors[0] - 1
        assert after["policy"].artifact_id == before["policy"].artifact_id
        forced = place.run("iteration", "bc|01", only=["training_set"], force=True)
        assert forced.made == ("training_set",)
        again = place.lake.ledger.require("training_set", "bc|01")
        assert again.content_digest == before["training_set"].content_digest
        assert mirror.facts_of(place.lake, again)["vlaw/excluded"] == 1, "Dagster shows it"
    finally:
        quarantine.release(place.lake, [failure], why="test", by="me")


def test_quarantine_is_of_its_moment_and_the_past_cannot_be_changed(vlaw, place):
    lake = place.lake
    first, second = [
        e.episode_id for e in lake.read(lake.ledger.require("validation_rollouts", KEY)).episodes(frames=False)
    ][:2]
    one = quarantine.add(lake, [first], why="a", by="me").ref
    two = quarantine.add(lake, [first, second], why="b", by="me")
    assert (two.changed, two.unchanged) == ((second,), (first,))
    assert list(quarantine.quarantined(lake)) == [first, second]
    assert list(quarantine.quarantined(lake.as_of(one.artifact_id))) == [first]
    assert [row["why"] for row in quarantine.quarantined(lake).values()] == ["a", "b"]
    shown = json.loads(vlaw("quarantine", "--json", "--as-of", one.artifact_id).stdout)
    assert [row["episode_id"] for row in shown["quarantine"]] == [first]
    assert (
        "the past cannot be changed"
        in vlaw("quarantine", first, "--release", "--as-of", one.artifact_id, code=2).stderr
    )
    done = quarantine.release(lake, [first, second], why="", by="me")
    assert quarantine.quarantined(lake) == {}
    assert done.ref.metrics["change"] == "released"


def test_the_list_changed_by_somebody_else_is_refused(place, monkeypatch):
    lake = place.lake
    one, two = [e.episode_id for e in lake.read(lake.ledger.require("real_rollouts", KEY)).episodes(frames=False)][:2]
    commit = type(lake).commit

    def late(self, **options):
        monkeypatch.setattr(type(lake), "commit", commit)
        quarantine.add(place.lake, [two], why="the other", by="them")
        return commit(self, **options)

    monkeypatch.setattr(type(lake), "commit", late)
    with pytest.raises(VlawError, match="changed by somebody else"):
        quarantine.add(lake, [one], why="mine", by="me")
    assert list(quarantine.quarantined(lake)) == [two]
    quarantine.release(lake, [two], why="", by="me")


def _note_episodes_read(monkeypatch, read: set[str]) -> None:
    """Puts the id of every episode of which a frame is read into `read`: whole episodes, or frames by number."""
    whole, by_number = frames.read, LanceEpisodes.take

    def read_whole(paths, entry, episode_ids, *steps):
        read.update(episode_ids)
        return whole(paths, entry, episode_ids, *steps)

    def take(source, pairs):
        read.update(source[index].episode_id for index, _ in pairs)
        return by_number(source, pairs)

    monkeypatch.setattr(frames, "read", read_whole)
    monkeypatch.setattr(LanceEpisodes, "take", take)
