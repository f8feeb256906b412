"""The loop end to end: one smoke iteration through Dagster with the real models and the real robot, and its failures.

Sizes are the packaged smoke recipe's. Stage functions are replaced only where a test is about orchestration: what
happens when a stage fails, returns bad data, or is run twice.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from factories import write_recipe
from smoke_place import FOUNDATION_ASSETS, LOOP_ASSETS, new_place, parts_of, smoke_place

from vlaw_assets.lake import pictures
from vlaw_assets.lineage.closure import audit_of, short
from vlaw_assets.pipeline import driver, mirror
from vlaw_assets.pipeline.page import page_of
from vlaw_assets.recipes import find_recipe
from vlaw_assets.reports.numbers import numbers_of

KEY = "smoke|01"
TASKS = find_recipe("smoke").tasks
PER_TASK = 2
"""Real, imagined and evaluation episodes per task of the smoke recipe."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


def current(place, asset, partition=KEY):
    return place.lake.ledger.require(asset, partition)


# ---- one iteration


def test_every_asset_is_in_the_ledger_once(place):
    refs = place.lake.ledger.artifacts()
    found = sorted((ref.asset, ref.partition) for ref in refs if ref.partition in ("", KEY))
    assert found == sorted([*((asset, "") for asset in FOUNDATION_ASSETS), *((asset, KEY) for asset in LOOP_ASSETS)])


def test_dagster_mirrors_the_ledger(place, monkeypatch):
    import dagster as dg

    monkeypatch.setenv("DAGSTER_HOME", str(place.root / "dagster_home"))
    with driver.open_instance() as instance:
        for asset in LOOP_ASSETS:
            ref = current(place, asset)
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[KEY]), limit=100
            ).records
            first = records[-1].asset_materialization
            identity = parts_of(first.metadata[mirror.IDENTITY])
            assert ref.content_digest.startswith(identity["content sha256"]), asset
            assert first.tags["dagster/data_version"].startswith(ref.content_digest[:16])
            read = {part.removeprefix("read as ") for part in identity if part.startswith("read as ")}
            assert read == {role for role, _ in place.lake.ledger.edges(ref.owner)}


ALWAYS = ("seconds",)
"""The last number of every asset."""
FIRST = {
    "policy_evaluation": ("success", "success_before", "difference", "trials"),
    "start_evaluation": ("success", "trials"),
    "iteration_report": ("success", "success_before", "difference", "difference_low", "difference_high"),
    "real_rollouts": ("success", "episodes"),
    "imagined_rollouts": ("episodes", "seconds_per_episode"),
    "reward_scores": ("accepted", "accepted_share", "p_yes_mean", "episodes"),
    "imagined_outcomes": ("label_precision", "label_recall", "imagined_success", "failed_starts_covered"),
    "training_set": ("members", "real", "imagined", "accepted_share"),
    "policy": ("validation_success", "validation_success_before", "loss_last", "stop", "real", "imagined"),
    "world_model": ("loss_last", "loss_first", "episodes"),
    "world_model_metrics": ("psnr_exterior_1", "psnr_exterior_2", "psnr_wrist", "psnr", "ssim", "perceptual"),
    "reward_model_metrics": ("judge_auc", "precision", "recall", "false_positive_rate", "calibration_error"),
    "loop_state": ("real_episodes",),
}
"""Asset -> what its page begins with, without what could not be measured on so few episodes."""


def test_every_page_begins_with_numbers_and_ends_with_who_it_is(place):
    import dagster as dg

    lake = place.lake
    for asset in (*FOUNDATION_ASSETS, *LOOP_ASSETS):
        ref = current(place, asset, "" if asset in FOUNDATION_ASSETS else KEY)
        page = page_of(lake, ref, reused=False)
        floats = [name for name, value in page.items() if isinstance(value, dg.FloatMetadataValue)]
        assert list(page)[: len(floats)] == floats, f"{asset}: numbers come first"
        assert floats[-1:] == list(ALWAYS), asset
        assert len(floats) >= 2 or not lake.read(ref).ref.num_rows, asset
        known = {name: page[name].value for name in floats}
        wanted = FIRST.get(asset, ())
        assert [name for name in floats if name in wanted] == [name for name in wanted if name in known], asset
        assert all(value == 0 or abs(value) > 1e-9 for value in known.values())
        assert ("dagster/row_count" in page) == bool(ref.num_rows and not ref.location), asset
        assert list(page)[-1] == mirror.IDENTITY
        assert "not_drawn" not in ref.metrics, asset
    numbers = numbers_of(lake, current(place, "policy_evaluation"))
    assert numbers["difference"] == pytest.approx(numbers["success"] - numbers["success_before"], abs=1e-3)
    assert set(numbers_of(lake, current(place, "policy"))) >= {"loss_last", "stop", "validation_success"}
    assert {f"psnr_{name}" for name in ("exterior_1", "exterior_2", "wrist")} <= set(
        numbers_of(lake, current(place, "world_model_metrics"))
    )


DRAWN = {
    "real_rollouts",
    "imagined_rollouts",
    "reward_scores",
    "imagined_outcomes",
    "training_set",
    "policy",
    "world_model",
    "reward_model",
    "policy_evaluation",
    "world_model_metrics",
    "reward_model_metrics",
    "iteration_report",
}


def test_every_stage_that_has_something_to_show_has_a_picture_as_wide_as_a_page(place):
    from PIL import Image

    for asset in DRAWN:
        named = pictures.named(current(place, asset))
        assert named, asset
        for digest in named.values():
            assert Image.open(pictures.path_of(place.lake.paths, digest)).width == 700, asset


def test_counts_are_the_recipes(place):
    lake = place.lake
    for asset in ("real_rollouts", "imagined_rollouts", "start_evaluation", "policy_evaluation"):
        tasks = [episode.task for episode in lake.read(current(place, asset)).episodes(frames=False)]
        assert {task: tasks.count(task) for task in set(tasks)} == dict.fromkeys(TASKS, PER_TASK), asset
    scores = lake.read(current(place, "reward_scores")).table("reward_scores").to_pylist()
    imagined = lake.read(current(place, "imagined_rollouts")).episodes(frames=False)
    assert {s["episode_id"] for s in scores} == {e.episode_id for e in imagined}
    assert all(0 <= s["p_success"] <= 1 for s in scores)


def test_imagined_episodes_begin_with_the_pixels_of_their_real_parent(place):
    real = {e.episode_id: e for e in place.lake.read(current(place, "real_rollouts")).episodes()}
    imagined = place.lake.read(current(place, "imagined_rollouts")).episodes()
    assert all(e.success is None for e in imagined)
    for one in imagined:
        parent = real[one.start_episode_id]
        assert (one.task, one.instruction) == (parent.task, parent.instruction)
        np.testing.assert_array_equal(one.images[0], parent.images[0])
        assert not np.array_equal(one.images[-1], parent.images[0])


def test_training_set_is_real_successes_and_what_the_judge_accepts(place):
    lake = place.lake
    members = lake.read(current(place, "training_set")).members().to_pylist()
    real = lake.read(current(place, "real_rollouts"))
    alpha = find_recipe("smoke").score.alpha
    accepted = {
        s["episode_id"]
        for s in lake.read(current(place, "reward_scores")).table("reward_scores").to_pylist()
        if s["p_success"] > alpha
    }
    assert {m["episode_id"] for m in members if m["source"] == "imagined"} == accepted
    assert {m["episode_id"] for m in members if m["source"] == "real"} == {
        e.episode_id for e in real.episodes(frames=False, success=True)
    }
    assert accepted, "smoke must exercise the policy update"
    assert {m["weight"] for m in members} == {1.0}


def test_the_policy_has_changed_and_loads(place):
    from vlaw_models.policies.base import load_policy

    before, after = current(place, "base_policy", ""), current(place, "policy")
    assert after.content_digest != before.content_digest
    assert load_policy(place.lake.read(after).checkpoint()) is not None
    members = place.lake.read(current(place, "training_set")).members().num_rows
    assert after.metrics["imagined"] + after.metrics["real"] == members
    assert len(after.metrics["losses"]) == find_recipe("smoke").policy.steps


def test_which_data_produced_this_policy(place):
    lake = place.lake
    found = audit_of(lake, current(place, "policy"))
    by_asset = {item["asset"]: item for item in found["artifacts"]}
    assert set(by_asset) == {
        "loop_state",
        "base_policy",
        "real_rollouts",
        "pretrained_world_model",
        "autoencoder",
        "co_training_data",
        "world_model",
        "imagined_rollouts",
        "pretrained_reward_model",
        "reward_model",
        "reward_scores",
        "training_set",
        "policy",
    }
    assert found["artifacts"][-1]["artifact"] == found["owner"], "parents before children"
    roles = {edge["role"]: edge["artifact"] for edge in by_asset["policy"]["parents"]}
    assert roles["policy"] == by_asset["base_policy"]["artifact"]
    assert roles["training_set"] == by_asset["training_set"]["artifact"]
    counted = {(row["purpose"], row["task"]): 0 for row in found["episodes"]}
    for row in found["episodes"]:
        counted[row["purpose"], row["task"]] += row["count"]
    assert {key: n for key, n in counted.items() if key[0] in ("rollout", "imagined")} == {
        (purpose, task): PER_TASK for purpose in ("rollout", "imagined") for task in TASKS
    }
    members = lake.read(current(place, "training_set")).members().num_rows
    assert sum(row["count"] for row in found["members"]) == members
    # What the policy was measured with is not what it was made from.
    assert not {"policy_evaluation", "start_evaluation", "validation_rollouts", "expert_demonstrations"} & set(by_asset)
    assert f"stands on {len(found['artifacts']) - 1} artifacts" in short(found)


def test_report_states_the_paired_difference(place):
    report = json.loads((place.lake.read(current(place, "iteration_report")).checkpoint() / "report.json").read_text())
    diff, low, high, trials = report["difference"]
    assert low <= diff <= high
    assert trials == PER_TASK * len(TASKS)
    assert {row["metric"] for row in report["metrics"]} >= {"psnr", "ssim"}


# ---- again: reuse, sharing, replacing


@pytest.mark.slow
def test_an_experiment_that_agrees_shares_the_artifact(place):
    write_recipe(place.recipes, "twin", imagine={"episodes_per_task": 0})
    done = place.run("iteration", "twin|01")
    assert {"loop_state", "real_rollouts", "start_evaluation", "validation_rollouts", "reward_model"} <= set(
        done.reused
    )
    lake = place.lake
    assert current(place, "real_rollouts", "twin|01").owner == current(place, "real_rollouts").artifact_id
    # Nothing imagined: the world model is the pretrained one, the tables are empty, the loop goes on all the same.
    assert (
        current(place, "world_model", "twin|01").content_digest
        == current(place, "pretrained_world_model", "").content_digest
    )
    assert lake.read(current(place, "imagined_rollouts", "twin|01")).episodes() == []
    assert lake.read(current(place, "reward_scores", "twin|01")).table("reward_scores").num_rows == 0
    members = lake.read(current(place, "training_set", "twin|01")).members().to_pylist()
    assert all(m["source"] == "real" for m in members)
    if not members:
        assert current(place, "policy", "twin|01").content_digest == current(place, "base_policy", "").content_digest


def test_force_computes_again_and_replaces_once(place):
    before = current(place, "training_set")
    done = place.run("iteration", KEY, only=["training_set"], force=True)
    after = current(place, "training_set")
    assert done.made == ("training_set",)
    assert after.artifact_id != before.artifact_id
    assert after.content_digest == before.content_digest, "same inputs, recipe and code: same content"


def test_the_second_iteration_starts_with_what_the_first_left(place):
    place.run(
        "iteration",
        "smoke|02",
        only=[
            "loop_state",
            "start_evaluation",
            "reward_model",
            "real_rollouts",
            "world_model",
        ],
    )
    lake = place.lake
    state = dict(lake.ledger.edges(current(place, "loop_state", "smoke|02").owner))
    assert state["policy"].content_digest == current(place, "policy").content_digest
    assert state["world_model"].content_digest == current(place, "world_model").content_digest
    assert state["real_rollouts_01"].artifact_id == current(place, "real_rollouts").artifact_id
    assert current(place, "start_evaluation", "smoke|02").owner == current(place, "policy_evaluation").artifact_id
    assert current(place, "reward_model", "smoke|02").content_digest == current(place, "reward_model").content_digest
    roles = {role for role, _ in lake.ledger.edges(current(place, "world_model", "smoke|02").owner)}
    assert {"real_rollouts_01", "real_rollouts_02"} <= roles, "D_real grows"
    first, second = (
        {e.seed for e in lake.read(current(place, "real_rollouts", f"smoke|0{i}")).episodes(frames=False)}
        for i in (1, 2)
    )
    assert not first & second, "new starts every iteration"


@pytest.mark.slow
def test_same_seed_same_digests(place, tmp_path_factory):
    other = new_place(tmp_path_factory.mktemp("again"))
    other.run("foundation", only=FOUNDATION_ASSETS)
    other.run("iteration", KEY)
    digests = [
        {
            (ref.asset, ref.partition): ref.content_digest
            for ref in lake.ledger.artifacts()
            if ref.partition in ("", KEY)
        }
        for lake in (place.lake, other.lake)
    ]
    assert digests[0] == digests[1]
