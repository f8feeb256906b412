"""What the metric assets write: rows, manifests, refusals; networks by folder; where a sequential test stops."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from factories import episode
from smoke_place import smoke_copy, smoke_place

from vlaw_assets.assets import world_model_metrics as asset
from vlaw_assets.pipeline.checks import evaluations_fit_schema
from vlaw_assets.reports import plots
from vlaw_assets.reports import success as summary
from vlaw_models.config import WorldModelMetricsConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.metrics.bootstrap import auroc_interval, mean_interval
from vlaw_models.metrics.calibration import auroc
from vlaw_models.metrics.features import judge_net
from vlaw_models.metrics.networks import folder_digest, judge_as_net, load_feature_net, load_perceptual_net
from vlaw_models.metrics.ranking import over_policies, over_trials
from vlaw_models.metrics.rows import check_clips, score_rows, verdict_rows, video_rows
from vlaw_models.metrics.sequential import interleaved, paired_sequential
from vlaw_models.metrics.stats import wilson
from vlaw_models.presets import foundation
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.early_stopping import until_settled

KEY = "smoke|01"
FIVE = ["psnr", "ssim", "perceptual_judge", "frechet_judge_frames", "frechet_judge_clips"]


def clip(
    index: int, *, task: str = "stack", steps: int = 3, size: int = 64, success: bool = True, event: str = "success"
) -> Episode:
    return episode(
        task,
        index,
        success=success,
        event=event,
        episode_id=f"clip-{index}",
        steps=steps,
        cameras=SPEC.camera_names,
        size=(size, size),
        dims=(5, 5),
        noise=index,
    )


def replay_of(one: Episode, level: int = 20, steps: int | None = None) -> Episode:
    steps = steps or one.num_steps
    noise = np.random.default_rng(one.seed).integers(-level, level + 1, one.images.shape)
    pixels = np.clip(one.images + noise, 0, 255).astype(np.uint8)[: steps + 1]
    pixels[0] = one.images[0]
    return dataclasses.replace(
        one,
        images=pixels,
        states=one.states[: steps + 1],
        actions=one.actions[:steps],
        success=None,
        event="",
        episode_id="",
        start_episode_id=one.episode_id,
    )


@pytest.fixture(scope="module")
def judge():
    return judge_net(foundation("tiny", "reward_model"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


# ---- video metrics


def test_five_metrics_per_camera_with_their_manifest(judge):
    clips = [clip(0), clip(1, task="draw"), clip(2), clip(3, task="draw", steps=5)]
    replayed = [replay_of(one, 10 + 20 * index, steps=3) for index, one in enumerate(clips)]
    rows, left_out = video_rows(clips, replayed, judge, replay_seed=7)
    assert left_out == []
    assert evaluations_fit_schema(rows).passed
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
    assert evaluations_fit_schema(rows).passed
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
    scores[2] = 0.3
    rows, _ = score_rows(clips, scores, 0.8)
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
    work = SimpleNamespace(
        parents={"feature_judge": None}, read=lambda role: SimpleNamespace(checkpoint=lambda: folder)
    )
    net, perceptual, left_out = asset.networks(work, WorldModelMetricsConfig(), (64, 64))
    assert (net.name, perceptual is net, left_out) == ("judge", True, [])
    net, perceptual, left_out = asset.networks(work, WorldModelMetricsConfig(feature_net=str(folder)), (32, 32))
    assert (net.name, perceptual) == ("judge", None)
    assert len(left_out) == 1
    assert left_out[0].startswith("perceptual distance: the pretrained judge looks at 64x64")


# ---- the assets, in a lake


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


# ---- stopping early


def outcomes(rates: dict[str, float], seed: int, count: int = 50) -> dict[tuple[str, int], bool]:
    rng = np.random.default_rng(seed)
    return {(task, index): bool(rng.random() < rate) for task, rate in rates.items() for index in range(count)}


def recorded(results):
    """`run` of until_settled, from recorded outcomes; remembers which trials it was asked for."""
    asked = []

    def run(part):
        asked.extend(part)
        return [dataclasses.replace(clip(0), task=task, seed=seed, success=results[task, seed]) for task, seed in part]

    return run, asked


def test_trials_take_turns_over_tasks_whatever_order_they_come_in():
    trials = [("stack", 5), ("draw", 1), ("stack", 2), ("draw", 0), ("stack", 9)]
    assert interleaved(trials) == [("draw", 0), ("stack", 2), ("draw", 1), ("stack", 5), ("stack", 9)]
    assert interleaved(trials[::-1]) == interleaved(trials)


def test_a_clearly_better_policy_stops_early_and_an_equal_one_does_not():
    tasks = dict.fromkeys(("stack", "draw"), 0.35)
    before = outcomes(tasks, 0)
    better = outcomes(dict.fromkeys(tasks, 0.9), 1)
    run, asked = recorded(better)
    episodes, stopping = until_settled(list(before), before, run, batch=10)
    assert stopping.decision.state == "a better"
    assert stopping.run == len(episodes) == len(asked) < 60
    assert stopping.run % 10 == 0
    assert asked == interleaved(before)[: stopping.run]
    assert stopping.reason.startswith(
        f"settled at 95% after {stopping.decision.trials} of 100 planned trials ({stopping.run} run): better"
    )
    assert stopping.detail()["decided_after"] == stopping.decision.trials > stopping.run - 10
    # The same decision as reading all recorded outcomes in that order, which is what the report does.
    told = summary.settled(better, before)
    assert (told.state, told.trials, told.of) == ("after is better", stopping.decision.trials, 100)
    wins = sum(better[key] and not before[key] for key in asked[: told.trials])
    losses = sum(before[key] and not better[key] for key in asked[: told.trials])
    assert paired_sequential(wins, losses).state == "a better"

    run, asked = recorded(outcomes(tasks, 2))
    episodes, stopping = until_settled(list(before), before, run, batch=10)
    assert (stopping.decision.state, stopping.run, len(asked)) == ("undecided", 100, 100)
    assert stopping.reason == "all 100 planned trials run: the sequential test has not settled the comparison"
    assert stopping.detail()["decided_after"] is None
    worse, _ = recorded(outcomes(tasks, 2))
    assert until_settled(list(before), dict.fromkeys(before, True), worse, batch=10)[1].reason.endswith(
        "worse than the policy the iteration started with"
    )


def test_trials_without_an_outcome_to_compare_with_are_refused():
    before = outcomes({"stack": 0.5}, 0, count=4)
    run, asked = recorded(before)
    with pytest.raises(VlawError, match="1 of 5 planned trials") as caught:
        until_settled([*before, ("stack", 99)], before, run)
    assert caught.value.where == "stack, seed 99"
    assert asked == []
    with pytest.raises(VlawError, match="without an outcome"):
        until_settled(list(before), before, lambda part: [dataclasses.replace(clip(0), success=None) for _ in part])


def test_ranks_take_plain_lists_and_give_intervals():
    imagined, real = [0.2, 0.4, 0.5, 0.9], [0.1, 0.3, 0.35, 0.8]
    found = over_policies("spearman", imagined, real, np.random.default_rng(0), resamples=200)
    assert found.value == 1.0
    assert found.low <= 1.0 == found.high
    trials = [[[True] * int(20 * rate) + [False] * (20 - int(20 * rate)) for rate in side] for side in (imagined, real)]
    found = over_trials("pearson", *trials, np.random.default_rng(0), resamples=200)
    assert found.low < found.value <= found.high
