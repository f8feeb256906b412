"""How true the world model is, on held-out real clips that nothing was trained on: the paper's Table 1.

Recorded actions are replayed inside the world model that an iteration ended with, and the one it started with, on the
same clips with the same judge and the same noise. Where it predicts rewards, what these say of the outcome is held
against the robot's (World-VLA-Loop's reward alignment).

The Fréchet and perceptual distances need a network. Where the recipe names none it is the judge of the foundation,
never the iteration's own: one fixed network, so that numbers of different iterations and experiments compare.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.success import ALL
from vlaw_models.config import WorldModelMetricsConfig, identifying

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef
    from vlaw_assets.recipes.schema import Recipe

PAPER_SAYS = 0.9
"""Predicted reward of a success, where the recipe says none (World-VLA-Loop)."""


def plan(stage: Stage) -> Plan:
    """Of the world model that this iteration ended with."""
    return _plan(stage, stage.require("world_model"))


def plan_start(stage: Stage) -> Plan:
    """Of the world model that this iteration started with."""
    state = read_state(stage)
    return _plan(stage, state.world_model, chosen_by=state.ref)


def _plan(stage: Stage, world_model: ArtifactRef, chosen_by: ArtifactRef | None = None) -> Plan:
    recipe = stage.recipe
    config = recipe.world_model_metrics
    parents = {
        "world_model": world_model,
        "reward_model": stage.require("reward_model"),
        "autoencoder": stage.require_foundation("autoencoder"),
        "clips": stage.require("validation_rollouts"),
    }
    if not (config.feature_net and config.perceptual_net):
        parents["feature_judge"] = stage.require_foundation("pretrained_reward_model")
    # Thresholds alone of [score]: how labels are made for training does not change what is measured here.
    tables = {
        "world_model_metrics": identity_of(config),
        "score": {"alpha": recipe.score.alpha, "told_above": told_above(recipe)},
        "seed": stage.seed,
        "robot": stage.robot.identity(),
    }
    return Plan(kind="world_model_metrics", recipe=tables, parents=parents, chosen_by=chosen_by)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    config = stage.recipe.world_model_metrics
    clips = work.read("clips").source() if config.clips_per_task else ()
    if not clips:
        return
    from vlaw_assets.reports import stage_pictures
    from vlaw_models.episodes import REWARDS
    from vlaw_models.metrics import rows as measured
    from vlaw_models.reward_models.score import score_episodes
    from vlaw_models.rollouts.replay import replay
    from vlaw_models.rollouts.rewards import head_scores
    from vlaw_models.sources import ScratchEpisodes

    measured.check_clips(clips, num_steps=config.num_steps)
    height, width = clips[0].images.shape[2:4]
    net, perceptual, left_out = networks(work, config, (height, width))
    replayed, spread = ScratchEpisodes(), stage.spread(work)
    models = {role: work.parents[role].content_digest for role in ("world_model", "reward_model")}
    for batch in replay(
        work.read("world_model").checkpoint(),
        work.read("autoencoder").checkpoint(),
        clips,
        config,
        robot=stage.robot,
        seed=stage.seed,
        spread=spread,
    ):
        work.demand(checks.all_finite(batch))
        work.draft.write_episodes(
            batch, purpose="replay", world="world_model", policy="", world_model=models["world_model"]
        )
        replayed.append(batch)
    work.check(checks.all_finite(replayed))
    found, more = measured.video_rows(clips, replayed, net, perceptual, replay_seed=stage.seed)
    scores = score_episodes(work.read("reward_model").checkpoint(), replayed, progress=stage.progress, spread=spread)
    found += measured.verdict_rows(clips, scores, stage.recipe.score.alpha, "replay")
    if all(REWARDS in episode.extra for episode in replayed):
        found += measured.verdict_rows(clips, head_scores(replayed), told_above(stage.recipe), "head")
    rows = [{**row, **models} for row in found]
    work.check(checks.rows_fit_schema("evaluations", rows))
    work.draft.write_evaluations(rows)
    work.metrics["figures"] = measured.figures(rows)
    if left_out := left_out + more:
        work.metrics["left_out"] = left_out
    work.metrics["psnr"] = {
        row["camera"]: row["value"] for row in rows if (row["task"], row["metric"]) == (ALL, "psnr")
    }
    work.draw("recorded, replayed, difference; PSNR by step", lambda: stage_pictures.replays(clips, replayed))


def told_above(recipe: Recipe) -> float:
    """The predicted reward above which an episode is a success, as the recipe has it: where imagination ends, or what
    its scores must exceed."""
    by_head = recipe.score.alpha if recipe.score.labels == "head" else PAPER_SAYS
    return by_head if recipe.imagine.done_above is None else recipe.imagine.done_above


def identity_of(config: WorldModelMetricsConfig) -> dict[str, Any]:
    """The table as it enters an identity: what is in the folders of networks, not where they lie."""
    from vlaw_models.metrics.networks import folder_digest

    given = {key: getattr(config, key) for key in ("feature_net", "perceptual_net")}
    networks = {key: folder_digest(folder) if folder else "" for key, folder in given.items()}
    return {key: value for key, value in (identifying(config) | networks).items() if key != "source"}


def networks(work: Work, config: WorldModelMetricsConfig, size: tuple[int, int]) -> tuple[Any, Any, list[str]]:
    """(feature network, perceptual network, what has to be left out and why) for frames of `size` (height, width)."""
    from vlaw_models.metrics.networks import judge_as_net, load_feature_net, load_perceptual_net

    judge, why = (
        judge_as_net(work.read("feature_judge").checkpoint(), *size) if "feature_judge" in work.parents else (None, "")
    )
    net = load_feature_net(config.feature_net) if config.feature_net else judge
    perceptual = load_perceptual_net(config.perceptual_net) if config.perceptual_net else judge
    missing = [
        name for name, found in (("Fréchet distances", net), ("perceptual distance", perceptual)) if found is None
    ]
    remedy = "set world_model_metrics.feature_net and perceptual_net in the recipe"
    return net, perceptual, [f"{name}: {why}; {remedy}" for name in missing]


_asset = partial(
    stage_asset,
    make=make,
    group="evaluation",
    pool=POOL,
    kinds=("deltalake", "lance"),
    checks=(checks.SCHEMA, checks.FINITE),
)
_DEPS = ("reward_model", "validation_rollouts", "autoencoder", "pretrained_reward_model")

world_model_metrics = _asset(
    "world_model_metrics",
    "Recorded actions replayed inside the world model: five video metrics per camera, and false successes.",
    plan=plan,
    deps=("world_model", *_DEPS),
)
start_world_model_metrics = _asset(
    "start_world_model_metrics",
    "The same of the world model that this iteration started with, on the same clips, with the same judge.",
    plan=plan_start,
    deps=("loop_state", *_DEPS),
)
