"""A real smoke iteration made again by what people say of an episode, and of what was made before a replay."""

from __future__ import annotations

import json
from functools import partial

import pytest
from asking import ask, at
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.lake import labels
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.query import connect
from vlaw_assets.rebuild import replay as replaying
from vlaw_assets.reports.success import evaluations, lists_text, success_of

KEY = "smoke|01"
GONE_BY = {"training_set", "policy", "reward_model", "iteration_report"}
"""Assets that read the rollouts and look at success, or stand on one that does."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the smoke place as it was made."""
    smoke_place(tmp_path_factory)
    return smoke_copy(tmp_path_factory.mktemp("labels") / "place")


@pytest.fixture
def vlaw(place, monkeypatch, tmp_path):
    return partial(at(monkeypatch, tmp_path, place.environment()), code=0)


def current(lake):
    return {ref.asset: ref for ref in lake.ledger.artifacts() if ref.partition == KEY}


@pytest.mark.slow
def test_an_iteration_by_another_label_and_the_one_before_replayed(vlaw, place):
    lake = place.lake
    before = current(lake)
    held = {e.episode_id: e for e in lake.read(before["real_rollouts"]).episodes(frames=False)}
    won = next(name for name, e in held.items() if e.success)
    assert won in lake.read(before["training_set"]).members()["episode_id"].to_pylist()

    printed = vlaw("label", won, "near_success", "--who", "ann", "--why", "it slid off after the last step").output
    assert f"{won}: near_success" in printed
    assert "made with other labels" in printed
    assert "to rebuild: smoke|01" in printed
    found = next(row for row in json.loads(vlaw("status", "--json").stdout) if row["partition"] == KEY)
    assert set(found["outdated"]) >= GONE_BY
    by_labels = {asset for asset, why in found["outdated_because"].items() if "other labels" in why}
    assert "imagined_rollouts" in by_labels, "failures are tried more often"
    assert not {"world_model", "real_rollouts", "latents", "loop_state"} & by_labels
    assert "nothing is stale" in vlaw("run", "--rebuild-stale", "--experiment", "smoke").output
    after = current(place.lake)
    assert won not in place.lake.read(after["training_set"]).members()["episode_id"].to_pylist()
    assert after["policy"].content_digest != before["policy"].content_digest
    assert after["latents"].artifact_id == before["latents"].artifact_id
    made_with = {
        ref.artifact_id: [
            row["made_with"]
            for row in json.loads(vlaw("audit", "policy", "smoke", "1", "--json", *moment).stdout)["labels"]
            if row["episode_id"] == won
        ]
        for ref, moment in ((after["policy"], ()), (before["policy"], ("--as-of", before["policy"].artifact_id)))
    }
    assert made_with == {after["policy"].artifact_id: ["near_success"], before["policy"].artifact_id: []}
    page = vlaw("audit", "policy", "smoke", "1").output
    assert "Labels that people gave" in page

    for ref in (before["training_set"], after["training_set"]):
        (again,) = replaying.replay(
            place.lake, place.lake.ledger.get(ref.artifact_id), recipes=place.recipes, only=True
        )
        assert (again.status, again.differences) == ("same", ()), ref.artifact_id


def test_every_number_that_is_shown_goes_by_the_label_in_force(vlaw, place):
    lake = place.lake
    ref = current(lake)["policy_evaluation"]
    trials = lake.read(ref).episodes(frames=False)
    name, was = trials[0].episode_id, bool(trials[0].success)
    rate, _ = success_of(lake, ref)
    assert lake.counted(ref).corrected == 0
    label_episodes(lake, [(name, "failure" if was else "success", "ann", "seen")])
    now, _ = success_of(lake, ref)
    assert (now.successes, now.trials) == (rate.successes + (-1 if was else 1), rate.trials)
    assert lake.counted(ref).corrected == 1
    assert lake.read(ref).episodes(frames=False)[0].success is was, "the row keeps what was recorded"
    row = next(row for row in json.loads(vlaw("status", "--json").stdout) if row["partition"] == KEY)
    assert row["after"].startswith(f"{now.value:.3f}")
    assert row["after"].endswith(", 1 relabelled")
    assert lists_text(evaluations(lake, "smoke", [1])) == "otherwise than recorded, by labels: 1 trial of after 01"
    known = next(
        item
        for item in json.loads(vlaw("audit", "policy", "smoke", "1", "--json").stdout)["metrics"]
        if item["asset"] == "policy_evaluation"
    )
    assert known["figures"]["success all"] == pytest.approx(now.value)
    with connect(lake) as query:
        rows = [row for row in ask(query, "success_per_task") if row["asset"] == "policy_evaluation"]
        assert sum(row["successes"] for row in rows) == now.successes
        marked = query.table("SELECT asset FROM evaluations WHERE corrected_trials > 0").to_pylist()
        assert {row["asset"] for row in marked} == {"policy_evaluation"}
    label_episodes(lake, [(name, "success" if was else "failure", "ann", "no, as recorded")])
    assert labels.corrections(lake).get(ref.artifact_id) is None
