"""What the metric assets write: rows, manifests, refusals; networks by folder; where a sequential test stops."""

from __future__ import annotations

import json

import pytest
from factories import write_recipe
from smoke_place import smoke_copy, smoke_place

from vlaw_models.errors import VlawError

KEY = "smoke|01"
FIVE = ["psnr", "ssim", "perceptual_judge", "frechet_judge_frames", "frechet_judge_clips"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


def rows_of(place, name):
    return [
        {**row, "detail": json.loads(row["detail_json"])}
        for row in place.lake.read(place.lake.ledger.require(name, KEY)).table("evaluations").to_pylist()
    ]


def test_the_world_models_before_and_after_are_measured_on_the_same_clips_with_the_same_judge(place):
    before, after = rows_of(place, "start_world_model_metrics"), rows_of(place, "world_model_metrics")
    videos = [[row for row in rows if row["task"] == "all" and row["metric"] in FIVE] for rows in (before, after)]
    assert [len(rows) for rows in videos] == [15, 15]
    first, second = (rows[0] for rows in videos)
    assert first["detail"]["clips"] == second["detail"]["clips"]
    assert first["detail"]["recorded_sha256"] == second["detail"]["recorded_sha256"]
    assert first["detail"]["replayed_sha256"] != second["detail"]["replayed_sha256"]
    assert first["reward_model"] == second["reward_model"]
    ledger = place.lake.ledger
    wanted = [
        ledger.require("pretrained_world_model", "").content_digest,
        ledger.require("world_model", KEY).content_digest,
    ]
    assert [first["world_model"], second["world_model"]] == wanted
    edges = dict(ledger.edges(ledger.require("world_model_metrics", KEY).owner))
    assert edges["feature_judge"].asset == "pretrained_reward_model", (
        "one fixed network for every iteration and experiment"
    )
    kept = {row["metric"] for row in rows_of(place, "reward_model_metrics")}
    assert {"real_brier", "real_ece", "real_calibration", "real_threshold_sweep"} <= kept


def test_the_report_says_where_a_sequential_test_would_have_stopped(place):
    folder = place.lake.read(place.lake.ledger.require("iteration_report", KEY)).checkpoint()
    (found,) = json.loads((folder / "report.json").read_text())["sequential_trials"]
    assert (found["state"], found["trials"], found["of"]) == ("undecided", 4, 4)
    assert found["threshold"] == pytest.approx(40)
    assert "sequential test is undecided after all 4 paired trials" in (folder / "report.md").read_text()


@pytest.mark.slow
def test_what_a_reward_head_says_of_replays_is_held_against_the_robot(place, tmp_path):
    """By its own threshold, the recipe's; a world model without a head has no such rows."""
    own = smoke_copy(tmp_path / "place")
    write_recipe(own.recipes, "headed", "smoke", world_model={"reward_weight": 1.0}, imagine={"done_above": 0.6})
    before_them = ["loop_state", "real_rollouts", "validation_rollouts", "latents", "world_model", "reward_model"]
    own.run("iteration", "headed|01", only=[*before_them, "world_model_metrics", "start_world_model_metrics"])
    lake = own.lake
    rows, before = (
        lake.read(lake.ledger.require(name, "headed|01")).table("evaluations").to_pylist()
        for name in ("world_model_metrics", "start_world_model_metrics")
    )
    assert not [row for row in before if row["metric"].startswith("head_")]
    said = [row for row in rows if row["metric"].startswith("head_false_positive_rate_at_")]
    assert {row["metric"].rpartition("_")[2] for row in said} == {"0.5", "0.6"}
    clips = lake.read(lake.ledger.require("validation_rollouts", "headed|01")).episodes(frames=False)
    replays = lake.read(lake.ledger.require("world_model_metrics", "headed|01")).episodes(frames=False)
    told = [max(episode.extra["rewards"]) > 0.6 for episode in replays]
    counts = json.loads(next(r for r in said if r["task"] == "all" and r["metric"].endswith("0.6"))["detail_json"])
    assert counts["real"] == [int(clip.success) for clip in clips]
    assert counts["judged"] == [int(one) for one in told]


def test_a_damaged_replay_is_refused_before_anything_is_written(place, tmp_path, monkeypatch):
    from vlaw_models.rollouts import replay

    own = smoke_copy(tmp_path / "place")
    original = replay.replay

    def damaged(*args, **options):
        replayed, *others = original(*args, **options)
        replayed[1].images = replayed[1].images[:, :, :32, :32]
        return [replayed, *others]

    monkeypatch.setattr(replay, "replay", damaged)
    before = [ref.artifact_id for ref in own.lake.ledger.artifacts()]
    clips = own.lake.read(own.lake.ledger.require("validation_rollouts", KEY)).episodes(frames=False)
    with pytest.raises(VlawError, match="frames of 32x32 and 64x64 pixels") as caught:
        own.run("iteration", KEY, only=["world_model_metrics"], force=True)
    assert clips[1].episode_id in str(caught.value)
    assert [ref.artifact_id for ref in own.lake.ledger.artifacts()] == before
