"""Rows of the metrics of a world model and a judge: by hand, with their manifest, and what cannot be measured on."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from clips import clip, replay_of

from vlaw_assets.assets import world_model_metrics as asset
from vlaw_assets.pipeline.checks import rows_fit_schema
from vlaw_assets.reports import plots
from vlaw_models.config import WorldModelMetricsConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.metrics.bootstrap import auroc_interval, mean_interval
from vlaw_models.metrics.calibration import auroc
from vlaw_models.metrics.features import judge_net
from vlaw_models.metrics.networks import folder_digest, judge_as_net, load_feature_net, load_perceptual_net
from vlaw_models.metrics.rows import check_clips, figures, score_rows, verdict_rows, video_rows
from vlaw_models.metrics.stats import wilson
from vlaw_models.presets import foundation
from vlaw_models.robots.tabletop.spec import SPEC

FIVE = ["psnr", "ssim", "perceptual_judge", "frechet_judge_frames", "frechet_judge_clips"]


@pytest.fixture(scope="module")
def judge():
    return judge_net(foundation("tiny", "reward_model"))


# ---- video metrics


def test_five_metrics_per_camera_with_their_manifest(judge):
    clips = [clip(0), clip(1, task="draw"), clip(2), clip(3, task="draw", steps=5)]
    replayed = [replay_of(one, 10 + 20 * index, steps=3) for index, one in enumerate(clips)]
    rows, left_out = video_rows(clips, replayed, judge, replay_seed=7)
    assert left_out == []
    assert rows_fit_schema("evaluations", rows).passed
    pooled = [row for row in rows if row["task"] == "all"]
    assert [(row["camera"], row["metric"]) for row in pooled] == [
        (camera, metric) for camera in SPEC.camera_names for metric in FIVE
    ]
    for row in pooled:
        detail = row["detail"]
        assert (row["trials"], detail["clips"], detail["seeds"]) == (4, [f"clip-{i}" for i in range(4)], [0, 1, 2, 3])
        assert detail["feature_net"] == {"name": "judge", "digest": judge.digest}
        assert (detail["replay_seed"], detail["frames"], detail["first_frame_excluded"]) == (7, 3, True)
        assert len(detail["recorded_sha256"]) == len(detail["replayed_sha256"]) == 64
        assert ("values" in detail) == ("low" in row) == (row["metric"] in FIVE[:3])
        if "values" in detail:
            assert np.mean(detail["values"]) == pytest.approx(row["value"])
            assert row["low"] < row["value"] < row["high"]
    by = {(row["task"], row["metric"], row["camera"]): row for row in rows}
    each = by["all", "psnr", "wrist"]["detail"]["values"]
    assert by["draw", "psnr", "wrist"]["value"] == pytest.approx((each[1] + each[3]) / 2)
    assert by["draw", "psnr", "wrist"]["detail"]["clips"] == ["clip-1", "clip-3"]
    assert each[0] > each[1] > each[2] > each[3], "more noise, less PSNR"
    assert ("draw", "frechet_judge_frames", "wrist") not in by
    json.dumps(rows, allow_nan=False)


def test_one_clip_has_no_frechet_distance_and_says_so(judge):
    rows, left_out = video_rows([clip(0)], [replay_of(clip(0))], judge, replay_seed=0)
    assert {row["metric"] for row in rows} == set(FIVE[:3])
    assert left_out == ["Fréchet distances: too few clips (1)"]
    assert not any("low" in row for row in rows), "one clip has no interval"
    rows, left_out = video_rows([clip(0), clip(1)], [replay_of(clip(0)), replay_of(clip(1))], None, replay_seed=0)
    assert {row["metric"] for row in rows} == set(FIVE[:2])
    assert left_out == []


def spoiled(**changes) -> Episode:
    return dataclasses.replace(clip(1), **changes)


NAN_STATES = np.full((4, 5), np.nan, np.float32)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spoiled(states=NAN_STATES), "states hold NaN"),
        (spoiled(actions=NAN_STATES[1:]), "actions hold NaN"),
        (spoiled(images=np.full((4, 3, 64, 64, 3), np.nan, np.float32)), "pixels hold NaN"),
        (spoiled(images=clip(1).images.astype(np.float32)), "float32"),
        (spoiled(images=clip(1).images[-1:]), "1 frames and 4 states for 3 actions"),
        (spoiled(success=None), "nobody has judged"),
        (clip(1, steps=2), "clips of 2 and 3 steps"),
        (clip(1, size=32), "frames of 32x32 and 64x64"),
        (spoiled(images=clip(1).images[:, :2]), "2 and 3 cameras"),
    ],
)
def test_clips_that_cannot_be_measured_on_are_named(judge, bad, words):
    clips = [clip(0), bad]
    with pytest.raises(VlawError, match=words) as caught:
        video_rows(clips, [replay_of(clip(0)), replay_of(clip(1))], judge, replay_seed=0)
    assert "clip-1" in caught.value.where
    if "steps" not in words:
        with pytest.raises(VlawError, match=words):
            check_clips(clips)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (dataclasses.replace(replay_of(clip(1)), states=NAN_STATES), "states hold NaN"),
        (replay_of(clip(1), steps=2), "clips of 4 and 3 frames|3 and 4 frames"),
        (replay_of(clip(1, size=32)), "frames of 32x32 and 64x64"),
        (dataclasses.replace(replay_of(clip(1)), images=clip(1).images[:, :2]), "2 and 3 cameras"),
        (replay_of(clip(2)), "seed 2"),
        (replay_of(clip(1, steps=4)), "4 steps for a clip of 3"),
    ],
)
def test_replays_that_are_not_of_the_clip_are_named(judge, bad, words):
    with pytest.raises(VlawError, match=words) as caught:
        video_rows([clip(0), clip(1)], [replay_of(clip(0)), bad], judge, replay_seed=0)
    assert "clip-1" in caught.value.where
    with pytest.raises(VlawError, match="2 clips and 1 replays"):
        video_rows([clip(0), clip(1)], [replay_of(clip(0))], judge, replay_seed=0)


# ---- verdicts and scores


def judged_clips() -> tuple[list[Episode], np.ndarray]:
    """(clips, scores): stack 2 successes (one seen) and 3 failures (toppled seen, seen and not; missed not), draw 1
    failure."""
    said = [
        ("stack", True, "success", 0.9),
        ("stack", True, "success", 0.4),
        ("stack", False, "toppled", 0.95),
        ("stack", False, "toppled", 0.6),
        ("stack", False, "missed", 0.1),
        ("draw", False, "open_curve", 0.2),
    ]
    return (
        [clip(index, task=task, success=success, event=event) for index, (task, success, event, _) in enumerate(said)],
        np.array([score for *_, score in said]),
    )


def test_verdicts_pooled_per_task_and_per_way_it_failed():
    clips, scores = judged_clips()
    rows = verdict_rows(clips, scores, 0.8, "replay")
    by = {(row["task"], row["metric"]): row for row in rows}
    assert len(by) == len(rows)
    at_alpha = by["all", "replay_false_positive_rate_at_0.8"]
    assert {key: at_alpha["detail"][key] for key in ("tp", "fp", "fn", "tn")} == {"tp": 1, "fp": 1, "fn": 1, "tn": 3}
    assert (at_alpha["successes"], at_alpha["trials"], at_alpha["value"]) == (1, 4, 0.25)
    assert (at_alpha["low"], at_alpha["high"]) == wilson(1, 4)
    plain = by["all", "replay_false_positive_rate_at_0.5"]["detail"]["events"]
    assert {event: (one["judged_success"], one["trials"]) for event, one in plain.items()} == {
        "toppled": (2, 2),
        "missed": (0, 1),
        "open_curve": (0, 1),
    }
    assert (plain["toppled"]["low"], plain["toppled"]["high"]) == wilson(2, 2)
    assert at_alpha["detail"]["real"] == [1, 1, 0, 0, 0, 0]
    assert at_alpha["detail"]["judged"] == [1, 0, 1, 0, 0, 0]
    assert by["stack", "replay_recall_at_0.8"]["value"] == 0.5
    assert by["draw", "replay_false_positive_rate_at_0.8"]["detail"]["clips"] == ["clip-5"]
    assert ("draw", "replay_recall_at_0.8") not in by, "no success, no recall"
    assert rows[0]["task"] == "all"
    clips[2].success = None
    for measure in (lambda: verdict_rows(clips, scores, 0.8, "real"), lambda: score_rows(clips, scores, 0.8)):
        with pytest.raises(VlawError, match="nobody has judged") as caught:
            measure()
        assert "clip-2" in caught.value.where


def test_scores_as_probabilities_as_an_order_and_at_every_threshold():
    clips, scores = judged_clips()
    rows, left_out = score_rows(clips, scores, 0.8)
    assert left_out == []
    assert rows_fit_schema("evaluations", rows).passed
    by = {row["metric"]: row for row in rows}
    assert by["real_auroc"]["value"] == 5 / 8  # .9 beats three of four failures, .4 two
    assert by["real_auroc"]["low"] <= 5 / 8 <= by["real_auroc"]["high"]
    real = np.array([1, 1, 0, 0, 0, 0])
    assert by["real_brier"]["value"] == pytest.approx(((scores - real) ** 2).mean())
    bins = by["real_calibration"]["detail"]["bins"]
    assert (
        by["real_ece"]["value"]
        == by["real_calibration"]["value"]
        == pytest.approx(sum(one["count"] * abs(one["rate"] - one["mean_score"]) for one in bins) / 6)
    )
    top = bins[-1]  # .9 and .95
    assert (top["count"], top["successes"], top["mean_score"]) == (2, 1, pytest.approx(0.925))
    assert (top["low"], top["high"]) == wilson(1, 2)
    sweep = {row["threshold"]: row for row in by["real_threshold_sweep"]["detail"]["rows"]}
    assert (sweep[0.8]["tp"], sweep[0.8]["fp"], sweep[0.8]["fn"], sweep[0.8]["tn"]) == (1, 1, 1, 3)
    assert sweep[0.99]["precision"] is None
    assert by["real_threshold_sweep"]["value"] == 0.0, "the best score is a failure's: never precise"
    assert not any(name.startswith(("real_recall", "real_thr", "real_cal")) for name in figures(rows))
    scores[2] = 0.3
    rows, _ = score_rows(clips, scores, 0.8)
    assert figures(rows)["real_recall_at_precision_0.9"] == 0.5
    assert {row["metric"]: row["value"] for row in rows}["real_threshold_sweep"] == 0.5
    json.dumps(rows, allow_nan=False)


def test_one_kind_of_outcome_has_no_order_and_says_so():
    clips, scores = judged_clips()
    rows, left_out = score_rows(clips[2:], scores[2:], 0.8)
    assert left_out == ["real_auroc: all 4 clips failed"]
    assert {row["metric"] for row in rows} == {"real_brier", "real_ece", "real_calibration", "real_threshold_sweep"}
    for bad, words in (
        ([0.5, 0.5, np.nan, 0.1], "NaN"),
        ([0.5, 2.0, 0.1, 0.1], "lies in"),
        ([0.5], "different lengths"),
    ):
        with pytest.raises(VlawError, match=words):
            score_rows(clips[2:], bad, 0.8)


def test_bootstrap_intervals_cover_and_hold_their_value():
    rng = np.random.default_rng(0)
    covered = [low <= 0 <= high for low, high in (mean_interval(rng.normal(size=40)) for _ in range(200))]
    assert 0.88 < np.mean(covered) < 0.99
    assert mean_interval([3.0]) is None
    assert mean_interval([3.0, 3.0]) == (3.0, 3.0)
    labels, scores = rng.random(80) < 0.4, rng.random(80)
    low, high = auroc_interval(scores, labels)
    assert low < auroc(scores, labels) < high
    assert high - low < 0.35
    assert (low, high) == auroc_interval(scores, labels)
    assert auroc_interval(scores, np.arange(80) == 3) is None


@pytest.mark.parametrize("least", [True, False])
def test_one_success_or_one_failure_has_an_order_and_no_interval(least):
    clips, scores = judged_clips()
    alone = next(index for index, clip in enumerate(clips) if clip.success == least)
    kept = [index for index, clip in enumerate(clips) if clip.success != least or index == alone]
    rows, left_out = score_rows([clips[index] for index in kept], scores[kept], 0.5)
    (order,) = (row for row in rows if row["metric"] == "real_auroc")
    assert 0 <= order["value"] <= 1
    assert "low" not in order
    assert not left_out


def test_pictures_of_calibration_and_thresholds():
    clips, scores = judged_clips()
    detail = {row["metric"]: row["detail"] for row in score_rows(clips, scores, 0.8)[0]}
    bins, sweep = detail["real_calibration"]["bins"], detail["real_threshold_sweep"]["rows"]
    drawn = [plots.calibration_plot(bins), plots.threshold_plot(sweep, 0.8)]
    assert all(png.startswith(b"\x89PNG") for png in drawn)
    assert drawn[1] != plots.threshold_plot(sweep, 0.01), "the line at alpha is where alpha is"


# ---- networks by folder


def test_networks_by_folder_and_their_digest(tmp_path):
    import shutil

    shipped, copy = foundation("tiny", "reward_model"), tmp_path / "elsewhere"
    shutil.copytree(shipped, copy)
    assert folder_digest(copy) == folder_digest(shipped), "what is in it counts, not where it lies"
    for load in (load_feature_net, load_perceptual_net):
        assert load(copy).name == "judge"
    (copy / "notes.txt").write_text("other")
    assert folder_digest(copy) != folder_digest(shipped)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "missing"):
        with pytest.raises(VlawError, match="no folder with the weights"):
            folder_digest(folder)
    with pytest.raises(VlawError, match="no weights") as caught:
        load_feature_net(empty)
    assert "inception_v3.safetensors" in caught.value.remedy
    (empty / "alexnet.safetensors").write_bytes(b"")
    with pytest.raises(VlawError, match="the folder has alexnet") as caught:
        load_perceptual_net(empty)
    assert "lpips.safetensors" in caught.value.remedy
    net, why = judge_as_net(shipped, 128, 96)
    assert net is None
    assert why == "the pretrained judge looks at 64x64 pixels, the clips have 96x128"


def test_identity_covers_the_network_and_not_its_path(tmp_path):
    folder = foundation("tiny", "reward_model")
    named = asset.identity_of(WorldModelMetricsConfig(feature_net=str(folder)))
    assert named["feature_net"] == folder_digest(folder)
    assert named["perceptual_net"] == ""
    assert str(folder) not in json.dumps(named)
    assert not {"guidance", "sampling_schedule"} & set(named)  # keys that came later, at their defaults
    assert asset.identity_of(WorldModelMetricsConfig(guidance=2.0))["guidance"] == 2.0
    work = SimpleNamespace(
        parents={"feature_judge": None}, read=lambda role: SimpleNamespace(checkpoint=lambda: folder)
    )
    net, perceptual, left_out = asset.networks(work, WorldModelMetricsConfig(), (64, 64))
    assert (net.name, perceptual is net, left_out) == ("judge", True, [])
    net, perceptual, left_out = asset.networks(work, WorldModelMetricsConfig(feature_net=str(folder)), (32, 32))
    assert (net.name, perceptual) == ("judge", None)
    assert len(left_out) == 1
    assert left_out[0].startswith("perceptual distance: the pretrained judge looks at 64x64")
