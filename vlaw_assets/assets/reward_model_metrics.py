"""How good the judge is, on held-out real clips that nothing was trained on: the paper's Table 3.

The reward model's scores are held against the robot's own outcome. The judge on replays is measured by
world_model_metrics.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Plan, Stage, Work
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.plots import calibration_plot, threshold_plot
from vlaw_assets.reports.success import measured_table

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef


def plan(stage: Stage) -> Plan:
    parents = {"reward_model": stage.require("reward_model"), "clips": stage.require("validation_rollouts")}
    return Plan(kind="reward_model_metrics", recipe={"score": {"alpha": stage.recipe.score.alpha}}, parents=parents)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    alpha = stage.recipe.score.alpha
    clips = work.read("clips").source() if stage.recipe.world_model_metrics.clips_per_task else ()
    if not clips:
        return
    from vlaw_models.metrics import rows as measured
    from vlaw_models.reward_models.score import score_episodes

    measured.check_clips(clips)
    scores = score_episodes(work.read("reward_model").checkpoint(), clips, progress=stage.progress)
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
    for clip, score in zip(clips, scores, strict=True):
        clip.extra["p_success"] = float(score)
    work.show("clips and their scores", list(islice(clips, 4)))
    detail = {row["metric"]: row["detail"] for row in found}
    work.show_png("calibration", calibration_plot(detail["real_calibration"]["bins"]))
    work.show_png("thresholds", threshold_plot(detail["real_threshold_sweep"]["rows"], alpha))
    work.texts["table"] = measured_table(measured.shown(rows))


def show(_stage: Stage, _plan: Plan, ref: ArtifactRef) -> Mapping[str, Any]:
    return {"figures": ref.metrics.get("figures", {})}


reward_model_metrics = stage_asset(
    "reward_model_metrics",
    "The judge against the robot's own outcome on held-out real clips: confusion, calibration, every threshold.",
    plan=plan,
    make=make,
    show=show,
    group="evaluation",
    deps=("reward_model", "validation_rollouts"),
    pool=POOL,
    kinds=("deltalake",),
    checks=(checks.SCHEMA, checks.FINITE),
)
