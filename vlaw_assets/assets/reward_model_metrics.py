"""How good the judge is, on held-out real clips that nothing was trained on: the paper's Table 3.

The reward model's scores are held against the robot's own outcome. The judge on replays is measured by
world_model_metrics.py.
"""

from __future__ import annotations

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks


def plan(stage: Stage) -> Plan:
    parents = {"reward_model": stage.require("reward_model"), "clips": stage.require("validation_rollouts")}
    return Plan(kind="reward_model_metrics", recipe={"score": {"alpha": stage.recipe.score.alpha}}, parents=parents)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    alpha = stage.recipe.score.alpha
    clips = work.read("clips").source() if stage.recipe.world_model_metrics.clips_per_task else ()
    if not clips:
        return
    from vlaw_assets.reports import stage_pictures
    from vlaw_models.metrics import rows as measured
    from vlaw_models.reward_models.score import score_episodes

    measured.check_clips(clips)
    scores = score_episodes(
        work.read("reward_model").checkpoint(), clips, progress=stage.progress, spread=stage.spread(work)
    )
    work.check(checks.numbers_finite(scores, what="scores"))
    judge = work.parents["reward_model"].content_digest
    found, left_out = measured.score_rows(clips, scores, alpha)
    rows = [{**row, "reward_model": judge} for row in [*measured.verdict_rows(clips, scores, alpha, "real"), *found]]
    work.check(checks.rows_fit_schema("evaluations", rows))
    work.draft.write_scores(
        [
            {
                "episode_id": e.episode_id,
                "owner": work.parents["clips"].owner,
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
    detail = {row["metric"]: row["detail"] for row in found}
    bins, sweep = detail["real_calibration"]["bins"], detail["real_threshold_sweep"]["rows"]
    work.draw(
        "calibration, and the worst false positives", lambda: stage_pictures.judge(bins, sweep, clips, scores, alpha)
    )


reward_model_metrics = stage_asset(
    "reward_model_metrics",
    "The judge against the robot's own outcome on held-out real clips: confusion, calibration, every threshold.",
    plan=plan,
    make=make,
    group="evaluation",
    deps=("reward_model", "validation_rollouts"),
    pool=POOL,
    kinds=("deltalake",),
    checks=(checks.SCHEMA, checks.FINITE),
)
