"""Scores of the imagined episodes: P(yes) of the reward model, kept as it is.

With score.labels = "head" it is the highest reward that the world model told of a frame, with the frames.

The threshold alpha is applied when the training set is read, so that another alpha needs no inference.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Recipe


def plan(stage: Stage) -> Plan:
    recipe = stage.recipe
    parents = {asset: stage.require(asset) for asset in ("imagined_rollouts", scored_by(recipe))}
    labels = {"labels": "head"} if recipe.score.labels == "head" else {}
    return Plan(kind="reward_scores", recipe={"tasks": list(recipe.tasks), **labels}, parents=parents)


def scored_by(recipe: Recipe) -> str:
    """The model whose word the scores are: the judge, or with score.labels = "head" the world model, by its head."""
    return "world_model" if recipe.score.labels == "head" else "reward_model"


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    recipe = stage.recipe
    if not recipe.imagine.count:
        return
    from vlaw_assets.reports import stage_pictures
    from vlaw_models.reward_models.score import score_episodes
    from vlaw_models.rollouts.rewards import head_scores

    imagined, role = work.read("imagined_rollouts"), scored_by(recipe)
    judge = work.read(role).checkpoint()
    episodes = imagined.source(tasks=recipe.tasks)
    if recipe.score.labels == "head":
        scores = head_scores(episodes)
    else:
        scores = score_episodes(judge, episodes, progress=stage.progress, spread=stage.spread(work))
    rows: list[dict[str, Any]] = [
        {
            "episode_id": e.episode_id,
            "owner": work.parents["imagined_rollouts"].owner,
            "task": e.task,
            "judge": work.parents[role].content_digest,
            "p_success": float(p),
        }
        for e, p in zip(episodes, scores, strict=True)
    ]
    read = Counter(e.task for e in episodes)  # as many as were asked for, without those in quarantine
    work.check(
        checks.numbers_finite([row["p_success"] for row in rows], what="scores"),
        checks.rows_fit_schema("reward_scores", rows),
        checks.counts_as_asked((row["task"] for row in rows), read),
    )
    work.draft.write_scores(rows)
    work.metrics["above_alpha"] = sum(row["p_success"] > recipe.score.alpha for row in rows)
    work.metrics["p_yes_mean"] = sum(row["p_success"] for row in rows) / len(rows) if rows else None
    scored = [stage_pictures.Scored(row["episode_id"], row["task"], row["p_success"]) for row in rows]
    work.draw(
        "imagined episodes by P(yes)",
        lambda: stage_pictures.scored(scored, recipe.score.alpha, lambda ids: imagined.source(episode_ids=ids)),
    )


reward_scores = stage_asset(
    "reward_scores",
    "P(yes | video, instruction) of every imagined episode (Eq. 3 without its threshold).",
    plan=plan,
    make=make,
    group="iteration",
    deps=("imagined_rollouts", "reward_model", "world_model"),
    pool=POOL,
    kinds=("deltalake",),
    checks=(checks.SCHEMA, checks.FINITE, checks.COUNTS),
)
