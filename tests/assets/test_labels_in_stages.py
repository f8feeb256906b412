"""What people say of episodes, where stages read it: training sets, recordings without labels, and what becomes
stale."""

from __future__ import annotations

import pytest
from one_stage import Bench
from small_loop import ALPHA, IMAGINED, TASKS, commit, episodes, foundation, no_latents
from test_recordings import SOURCE, record, rolled_out

from vlaw_assets.assets.making import STAGES
from vlaw_assets.by_label import BLIND
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.rebuild.staleness import ask, differences
from vlaw_models.errors import VlawError

KEY = "lab|01"


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    foundation(bench.lake)
    bench.recipe("lab", score={"alpha": ALPHA})
    return bench


def until_scores(bench):
    """Real rollouts, imagined ones and their scores 0.1, 0.2, ...; ids by 'real' and 'imagined', tasks interleaved."""
    bench.make("loop_state", KEY)
    ids = {}

    def write_real(draft):
        ids["real"] = draft.write_episodes(episodes(4, seed=1), purpose="rollout", world="tabletop")

    real = commit(bench.lake, "real_rollouts", KEY, "real_rollouts", {}, write_real)

    def write_imagined(draft):
        found = episodes(IMAGINED, seed=2, judged=False, starts=ids["real"])
        ids["imagined"] = draft.write_episodes(found, purpose="imagined", world="world_model")

    imagined = commit(bench.lake, "imagined_rollouts", KEY, "imagined_rollouts", {"starts": real}, write_imagined)

    def write_scores(draft):
        draft.write_scores(
            [
                {
                    "episode_id": name,
                    "p_success": (index // len(TASKS) + 1) / 10,
                    "owner": imagined.artifact_id,
                    "task": TASKS[index % len(TASKS)],
                }
                for index, name in enumerate(ids["imagined"])
            ]
        )

    commit(bench.lake, "reward_scores", KEY, "reward_scores", {"imagined_rollouts": imagined}, write_scores)
    return ids


def members(bench, ref):
    return set(bench.lake.read(ref).members()["episode_id"].to_pylist())


def reasons(bench, asset):
    answer = ask(bench.lake, asset, KEY, recipes=bench.recipes)
    return differences(bench.lake, bench.lake.ledger.require(asset, KEY), answer)


def test_a_training_set_goes_by_what_people_say(bench):
    ids = until_scores(bench)
    before = bench.make("training_set", KEY)
    assert reasons(bench, "training_set") == ()
    lost, won = ids["real"][0], ids["real"][2]
    low, high = ids["imagined"][0], ids["imagined"][-1]
    assert {won, high} <= members(bench, before)
    assert not {lost, low} & members(bench, before)
    label_episodes(bench.lake, [(won, "success", "ann", "as recorded")])
    assert reasons(bench, "training_set") == (), "nothing is otherwise by it"

    label_episodes(
        bench.lake,
        [
            (lost, "success", "ann", "it stood in the end"),
            (won, "near_success", "ann", "it fell after the last step"),
            (low, "success", "ann", "the judge saw a shadow"),
            (high, "failure", "ann", "the cup melts"),
        ],
    )
    (reason,) = reasons(bench, "training_set")
    assert "made with other labels" in reason
    assert f"{won} as recorded -> near_success" in reason or "and 1 more" in reason
    after = bench.make("training_set", KEY)
    assert members(bench, after) == members(bench, before) - {won, high} | {lost, low}
    assert after.metrics["relabelled"] == 4
    assert reasons(bench, "training_set") == ()
    rows = {row["episode_id"]: row for row in audit_of(bench.lake, after)["labels"]}
    assert {name: row["made_with"] for name, row in rows.items()} == {
        lost: "success",
        won: "near_success",
        low: "success",
        high: "failure",
    }
    read = {row["made_with"] for row in audit_of(bench.lake, before)["labels"]}
    assert read == {"as recorded"}

    label_episodes(bench.lake, [(won, "failure", "bob", "a failure, nothing near it")])
    assert reasons(bench, "training_set") == (), "a near success counts as a failure"
    label_episodes(bench.lake, [(won, "success", "bob", "it did not fall")])
    (reason,) = reasons(bench, "training_set")
    assert f"{won} near_success -> success" in reason


def test_what_looks_at_no_success_is_not_asked_again(bench):
    no_latents(bench.lake)
    commit(bench.lake, "latents", KEY, "latents", {}, lambda draft: draft.set_metrics({"costless": True}))
    ids = until_scores(bench)
    plans = {
        asset: ask(bench.lake, asset, KEY, recipes=bench.recipes).identity
        for asset in ("world_model", "reward_model", "training_set")
    }
    label_episodes(bench.lake, [(ids["real"][0], "success", "ann", "it stood")])
    now = {asset: ask(bench.lake, asset, KEY, recipes=bench.recipes).identity for asset in plans}
    assert now["world_model"] == plans["world_model"]
    assert [now[asset].labels for asset in ("reward_model", "training_set")] == [((ids["real"][0], True),)] * 2
    assert [plan.labels for plan in plans.values()] == [()] * 3
    assert set(STAGES) > BLIND, "of stages that there are"


def test_a_recording_without_labels_is_taken_with_those_that_people_gave(bench):
    recorded = record(bench, "lab", judged=False)
    bench.recipe("lab", rollouts=SOURCE)
    with pytest.raises(VlawError, match="no success label") as caught:
        rolled_out(bench)
    assert "vlaw label" in caught.value.remedy
    given = [(e.episode_id, ("failure", "success")[n % 2], "ann", "watched") for n, e in enumerate(recorded)]
    label_episodes(bench.lake, given)
    said = {name: label == "success" for name, label, *_ in given}
    copies = rolled_out(bench)
    assert copies
    assert all(copy.success is said[copy.start_episode_id] for copy in copies)
    rows = bench.lake.read(bench.lake.ledger.require("real_rollouts", KEY)).table("episodes").to_pylist()
    assert all(row["success"] is said[row["start_episode_id"]] for row in rows)
