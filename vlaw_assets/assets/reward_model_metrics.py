"""How good the judge is, on held-out real clips that nothing was trained on: the paper's Table 3.

Here: the reward model's scores against the robot's own outcome. Not here: the metrics (vlaw_models/metrics), the judge
on replays (world_model_metrics.py).
"""

from __future__ import annotations

import dagster as dg

from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.plots import calibration_plot, threshold_plot
from vlaw_assets.reports.success import measured_table


@stage_asset(
    group="evaluation",
    deps=("reward_model", "validation_rollouts"),
    pool=POOL,
    kinds=("deltalake",),
    checks=(checks.SCHEMA, checks.FINITE),
)
def reward_model_metrics(stage: Stage) -> dg.MaterializeResult:
    """The judge against the robot's own outcome on held-out real clips: confusion, calibration, every threshold."""
    recipe = stage.recipe
    alpha = recipe.score.alpha
    parents = {"reward_model": stage.require("reward_model"), "clips": stage.require("validation_rollouts")}
    with stage.commit("reward_model_metrics", recipe={"score": {"alpha": alpha}}, parents=parents) as work:
        clips = (
            work.read("clips").episodes(frames=True)
            if work.wanted and recipe.world_model_metrics.clips_per_task
            else []
        )
        if clips:
            from vlaw_models.metrics import rows as measured
            from vlaw_models.reward_models.score import score_episodes

            measured.check_clips(clips)
            scores = score_episodes(work.read("reward_model").checkpoint(), clips, progress=stage.progress)
            work.check(checks.numbers_finite(scores, what="scores"))
            judge = parents["reward_model"].content_digest
            found, left_out = measured.score_rows(clips, scores, alpha)
            rows = [
                {**row, "reward_model": judge} for row in [*measured.verdict_rows(clips, scores, alpha, "real"), *found]
            ]
            work.check(checks.evaluations_fit_schema(rows))
            work.draft.write_scores(
                [
                    {
                        "episode_id": e.episode_id,
                        "owner": parents["clips"].owner,
                        "task": e.task,
                        "judge": judge,
                        "p_success": float(p),
                    }
                    for e, p in zip(clips, scores, strict=True)
                ]
            )
            work.draft.write_evaluations(rows)
            work.metrics["figures"] = measured.figures(rows)
            if left_out:
                work.metrics["left_out"] = left_out
            for clip, score in zip(clips, scores, strict=True):
                clip.extra["p_success"] = float(score)
            work.show("clips and their scores", clips[:4])
            detail = {row["metric"]: row["detail"] for row in found}
            work.show_png("calibration", calibration_plot(detail["real_calibration"]["bins"]))
            work.show_png("thresholds", threshold_plot(detail["real_threshold_sweep"]["rows"], alpha))
            work.texts["table"] = measured_table(rows)
    return stage.result(work, figures=dg.MetadataValue.json(work.draft.ref.metrics.get("figures", {})))
