"""How good the world model and the reward model are, on held-out real clips that nothing was trained on.

Here: replaying recorded actions inside the world model (the paper's Table 1: picture metrics, and whether it imagines
success where the robot failed), and the judge against the robot's own outcome (Table 3). Not here: the metrics
themselves (vlaw_models/metrics). Every row's `detail` names the clips it was computed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_assets.summary import ALL, markdown, rate

PLAIN_YES = 0.5
"""The judge's plain answer: yes more likely than no. Compared with the recipe's alpha, as in the paper's Table 3."""


@stage_asset(group="evaluation", deps=("world_model", "reward_model", "validation_rollouts", "autoencoder"),
             modules=code.WORLD_MODEL_METRICS, pool=POOL, kinds=("deltalake", "lance"), checks=(checks.SCHEMA, checks.FINITE))
def world_model_metrics(stage: Stage) -> dg.MaterializeResult:
    """Recorded actions replayed inside the world model: PSNR and SSIM per camera, and false successes."""
    recipe = stage.recipe
    parents = {"world_model": stage.require("world_model"), "reward_model": stage.require("reward_model"),
               "autoencoder": stage.require_foundation("autoencoder"), "clips": stage.require("validation_rollouts")}
    tables = {**recipe.tables("world_model_metrics", "score"), "seed": stage.seed}
    with stage.commit("world_model_metrics", recipe=tables, parents=parents) as work:
        if work.wanted and recipe.world_model_metrics.clips_per_task:
            from vlaw_models.imagine import replay
            from vlaw_models.score import score_episodes

            clips = work.read("clips").episodes(frames=True)
            replayed = replay(work.read("world_model").checkpoint(), work.read("autoencoder").checkpoint(), clips,
                              recipe.world_model_metrics, seed=stage.seed)
            work.check(checks.all_finite(replayed))
            scores = score_episodes(work.read("reward_model").checkpoint(), replayed, progress=stage.progress)
            models = {role: parents[role].content_digest for role in ("world_model", "reward_model")}
            rows = [*picture_rows(clips, replayed), *judge_rows(clips, scores, recipe.score.alpha, "replay")]
            rows = [{**row, **models} for row in rows]
            work.check(checks.evaluations_fit_schema(rows))
            work.draft.write_episodes(replayed, purpose="replay", world="world_model", policy="",
                                      world_model=models["world_model"])
            work.draft.write_evaluations(rows)
            work.metrics["figures"] = _figures(rows)
            work.show("recorded, then replayed", [clips[0], replayed[0], clips[-1], replayed[-1]])
            work.pictures["table"] = _table(rows)
    return stage.result(work, figures=dg.MetadataValue.json(work.draft.ref.metrics.get("figures", {})))


@stage_asset(group="evaluation", deps=("reward_model", "validation_rollouts"), modules=code.REWARD_MODEL_METRICS, pool=POOL,
             kinds=("deltalake",), checks=(checks.SCHEMA, checks.FINITE))
def reward_model_metrics(stage: Stage) -> dg.MaterializeResult:
    """The judge against the robot's own outcome on held-out real clips: precision, recall, false positives."""
    recipe = stage.recipe
    parents = {"reward_model": stage.require("reward_model"), "clips": stage.require("validation_rollouts")}
    with stage.commit("reward_model_metrics", recipe=recipe.tables("score"), parents=parents) as work:
        if work.wanted and recipe.world_model_metrics.clips_per_task:
            from vlaw_models.score import score_episodes

            clips = work.read("clips").episodes(frames=True)
            scores = score_episodes(work.read("reward_model").checkpoint(), clips, progress=stage.progress)
            work.check(checks.numbers_finite(scores, what="scores"))
            judge = parents["reward_model"].content_digest
            rows = [{**row, "reward_model": judge} for row in judge_rows(clips, scores, recipe.score.alpha, "real")]
            work.check(checks.evaluations_fit_schema(rows))
            work.draft.write_scores([{"episode_id": e.episode_id, "owner": parents["clips"].owner, "task": e.task,
                                      "judge": judge, "p_success": float(p)} for e, p in zip(clips, scores, strict=True)])
            work.draft.write_evaluations(rows)
            work.metrics["figures"] = _figures(rows)
            for clip, score in zip(clips, scores, strict=True):
                clip.extra["p_success"] = float(score)
            work.show("clips and their scores", clips[:4])
            work.pictures["table"] = _table(rows)
    return stage.result(work, figures=dg.MetadataValue.json(work.draft.ref.metrics.get("figures", {})))


def picture_rows(clips: Sequence[Any], replayed: Sequence[Any]) -> list[dict[str, Any]]:
    """PSNR and SSIM per task and camera, means over clips; the first frame is given, so it does not count."""
    from vlaw_models.episodes import CAMERAS
    from vlaw_models.metrics.video import psnr, ssim

    rows = []
    for task in dict.fromkeys(clip.task for clip in clips):
        pairs = [(clip, copy) for clip, copy in zip(clips, replayed, strict=True) if clip.task == task]
        detail = {"clips": [clip.episode_id for clip, _ in pairs]}
        for view, camera in enumerate(CAMERAS):
            for name, metric in (("psnr", psnr), ("ssim", ssim)):
                values = [float(metric(clip.images[1:len(copy.images), view], copy.images[1:, view])) for clip, copy in pairs]
                rows.append({"task": task, "metric": name, "camera": camera, "value": sum(values) / len(values),
                             "trials": len(values), "detail": detail})
    return rows


def judge_rows(clips: Sequence[Any], scores: Sequence[float], alpha: float, what: str) -> list[dict[str, Any]]:
    """The judge's verdicts on `what` ("real" or "replay") against the robot's outcome, at 0.5 and at alpha.

    Each rate with its Wilson interval; a rate whose denominator is zero is left out.
    """
    rows = []
    detail = {"clips": [clip.episode_id for clip in clips]}
    for threshold in sorted({PLAIN_YES, alpha}):
        pairs = [(bool(clip.success), bool(score > threshold)) for clip, score in zip(clips, scores, strict=True)]
        tp, fp = pairs.count((True, True)), pairs.count((False, True))
        fn, tn = pairs.count((True, False)), pairs.count((False, False))
        for name, k, n in (("precision", tp, tp + fp), ("recall", tp, tp + fn), ("false_positive_rate", fp, fp + tn)):
            if n:
                found = rate(k, n)
                rows.append({"task": ALL, "metric": f"{what}_{name}_at_{threshold:g}", "trials": n, "successes": k,
                             "value": found.value, "low": found.low, "high": found.high,
                             "detail": {**detail, "tp": tp, "fp": fp, "fn": fn, "tn": tn}})
    return rows


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """One number per metric: means over tasks and cameras, rates as they are."""
    names = dict.fromkeys(row["metric"] for row in rows)
    values = {name: [row["value"] for row in rows if row["metric"] == name] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    body = [[row["task"], row["metric"], row.get("camera", ""), f"{row['value']:.3f}",
             f"[{row['low']:.3f}, {row['high']:.3f}]" if "low" in row else "", str(row["trials"])] for row in rows]
    return markdown([["task", "metric", "camera", "value", "95 %", "n"], *body])
