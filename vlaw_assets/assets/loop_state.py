"""Where the loop closes: the state (policy, world model, reward model, real dataset) that an iteration starts with.

The state is resolved from the ledger; the promotion gate (promotion.py) says whether a new model may replace the one
before. Later stages read it by state.py. Why an asset of its own: Dagster's graph must be acyclic whatever the
partition offsets, so the edge from iteration i-1 to i is the one edge that is not declared. It is recorded all the
same: the ledger has an edge to every artifact the state consists of.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets import promotion
from vlaw_assets.assets.making import STAGES, first_of
from vlaw_assets.assets.stage import CLASSES, MAKE_IT, Stage
from vlaw_assets.assets.stage_asset import stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.loop_roles import CANDIDATE, GATE_READS, GATED, INCUMBENT, MEASURED, MODELS, REAL
from vlaw_assets.partitions import partition_of
from vlaw_assets.pipeline import checks
from vlaw_assets.pipeline.resources import Workplace
from vlaw_assets.recipes.fit import check_foundation, check_heads, check_learner, check_practice
from vlaw_assets.reports.success import ALL
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

ASSET = "loop_state"
FOUNDATION_STATE = {
    "policy": "base_policy",
    "world_model": "pretrained_world_model",
    "reward_model": "pretrained_reward_model",
}


FOUNDATION = (*FOUNDATION_STATE.values(), "autoencoder", "expert_demonstrations", "co_training_data", "corpus_latents")
"""What the job `foundation` makes."""


@dataclass(frozen=True, kw_only=True)
class StatePlan(Plan):
    """What the iteration before left: the parents are the state, the gate's candidates and what the gate read."""

    verdicts: tuple[promotion.Verdict, ...]


def plan(stage: Stage) -> StatePlan:
    _check_recipe(stage)
    parents, verdicts = _state_before(stage)
    recipe = _settings(stage, gate=bool(verdicts))
    return StatePlan(kind="loop_state", recipe=recipe, parents=parents, verdicts=verdicts)


def check(stage: Stage, plan: StatePlan, work: Work) -> None:
    """Refuses a recipe whose learner cannot update the policy. Says what the gate decided: a finding for the asset's
    page, a warning in the log for each model refused."""
    _check_learner(stage, plan)
    refused = [verdict for verdict in plan.verdicts if not verdict.promoted]
    texts = [
        f"{verdict.model} {'promoted' if verdict.promoted else 'refused'}: {verdict.reason}"
        for verdict in plan.verdicts
    ]
    work.check(
        checks.Finding(
            checks.PROMOTED,
            passed=not refused,
            blocking=False,
            text="; ".join(texts) or "no gate: iteration 01, or [promotion] enabled = false",
        )
    )
    for verdict in refused:
        kept = plan.parents[verdict.model]
        line = (
            f"the new {verdict.model} is refused ({verdict.reason}); the loop keeps {kept.name} "
            f"{kept.content_digest[:12]}"
        )
        stage.log.warning(line)
        stage.progress(1, 1, line)


def make(_stage: Stage, plan: StatePlan, work: Work) -> None:
    """Every checkpoint of the state is hashed again before it is passed on."""
    for role in plan.parents:
        handle = work.read(role)
        if role in MODELS:
            handle.checkpoint()
    folder = work.draft.checkpoint_dir()
    _write(folder / "state.json", {role: ref.content_digest for role, ref in plan.parents.items()})
    if plan.verdicts:
        verdicts = {verdict.model: verdict.as_json() for verdict in plan.verdicts}
        _write(folder / "promotion.json", verdicts)
        work.metrics["promotion"] = verdicts


def refuse_before_any_step(workplace: Workplace, partition: str, assets: Collection[str]) -> None:
    """What the first steps of a run would refuse, so that it ends before any of them and no asset counts as failed.

    Args:
        assets: what the run is to make; none: all of an iteration.

    Raises VlawError.
    """
    lake = workplace.open_lake()
    for asset in first_of(assets or [ASSET]):
        if asset in STAGES:
            stage = Stage(lake, workplace, asset, partition)
            planned = STAGES[asset].plan(stage)
            if isinstance(planned, StatePlan):
                _check_learner(stage, planned)


def _check_recipe(stage: Stage) -> None:
    recipe = stage.recipe
    if stage.partition not in {partition_of(recipe.name, number) for number in range(1, recipe.iterations + 1)}:
        raise VlawError(
            f"experiment {recipe.name} has {recipe.iterations} iterations: {stage.partition} is none of them",
            where=f"partition {stage.partition}",
            remedy=f"Use {partition_of(recipe.name, 1)} to {partition_of(recipe.name, recipe.iterations)}, or raise "
            f"'iterations' in {recipe.name}.toml.",
        )
    check_foundation(recipe, stage.foundation)


def _check_learner(stage: Stage, plan: StatePlan) -> None:
    """Of the policy that this iteration updates; one of unknown class, of an older lake, is checked when it is."""
    from_base = stage.recipe.policy.start == "base"
    policy = stage.ledger.require("base_policy", "") if from_base else plan.parents["policy"]
    for policy_class in policy.metrics.get(CLASSES, ())[:1]:
        check_learner(stage.recipe, policy_class)
    check_practice(stage.recipe)
    location = plan.parents["world_model"].location
    config = stage.lake.paths.root / location / "config.json"
    check_heads(stage.recipe, config.parent if location and config.is_file() else None)


def _state_before(stage: Stage) -> tuple[dict[str, ArtifactRef], tuple[promotion.Verdict, ...]]:
    """(role -> artifact: the state, the candidates of the gate and what it read; its verdicts). Raises VlawError where
    one is missing."""
    ledger, experiment, iteration = stage.ledger, stage.experiment, stage.iteration
    if iteration == 1:
        _check_there(stage)
        return {role: ledger.require(asset, "") for role, asset in FOUNDATION_STATE.items()}, ()
    before = partition_of(experiment, iteration - 1)
    wanted = ("loop_state", REAL, *MODELS)
    found = {asset: ref for asset in wanted if (ref := ledger.current(asset, before)) is not None}
    missing = [asset for asset in wanted if asset not in found]
    if missing:
        raise VlawError(
            f"iteration {iteration:02d} of {experiment} needs {iteration - 1:02d}: {', '.join(missing)} missing",
            where=f"loop_state, partition {stage.partition}",
            remedy=f"Materialize partition '{before}' first: vlaw run --experiment {experiment} --iterations "
            f"{iteration}",
        )
    old = dict(ledger.edges(found["loop_state"].owner))
    earlier = {role: ref for role, ref in old.items() if role.startswith(REAL)}
    real = {**earlier, f"{REAL}_{iteration - 1:02d}": found[REAL]}
    if not stage.recipe.promotion.enabled:
        return {**{role: found[role] for role in MODELS}, **real}, ()
    read = _evidence(stage, found, old)
    verdicts = _recorded(stage, read) or (_decide_policy(stage, read), _decide_world_model(stage, read))
    found |= {verdict.model: old[verdict.model] for verdict in verdicts if not verdict.promoted}
    return {**{role: found[role] for role in MODELS}, **real, **read}, verdicts


def _check_there(stage: Stage) -> None:
    """All that is missing of the foundation, in one message: a stage at a time would ask for one at a time."""
    near = ("near_success",) if stage.recipe.world_model.near_success else ()
    missing = [asset for asset in (*FOUNDATION, *near) if stage.ledger.current(asset, "") is None]
    if set(missing) & {*FOUNDATION_STATE.values(), *near}:
        raise VlawError(
            f"the foundation is missing: {', '.join(missing)}", where=str(stage.lake.paths.root), remedy=MAKE_IT
        )


def _settings(stage: Stage, *, gate: bool) -> dict[str, Any]:
    """What of the recipe decides: the preset, and for the gate its bounds."""
    asked = {**stage.recipe.tables("promotion"), "score": {"alpha": stage.recipe.score.alpha}} if gate else {}
    return {"preset": stage.recipe.preset, **asked}


def _evidence(stage: Stage, found: Mapping[str, ArtifactRef], old: Mapping[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """Role -> artifact: the new models that the gate decides on, and whose measurements it reads. Verdicts follow from
    these."""
    new = {model: found[model] for model in GATED if found[model].location != old[model].location}
    read = {CANDIDATE + model: ref for model, ref in new.items()}
    if "policy" in new:
        started_with = dict(stage.ledger.edges(new["policy"].owner)).get("policy")
        if started_with is None or started_with.location != old["policy"].location:
            # It was not trained from the policy that it would replace: that one's own measurement is on the same
            # starts.
            read[INCUMBENT] = old["policy"]
    measured = stage.ledger.current(MEASURED, partition_of(stage.experiment, stage.iteration - 1))
    if "world_model" in new and measured is not None:
        read[MEASURED] = measured
    return read


def _recorded(stage: Stage, read: Mapping[str, ArtifactRef]) -> tuple[promotion.Verdict, ...]:
    """The verdicts of the state that is there, if they were made of the same evidence, settings and code; else none."""
    from vlaw_assets.lake import canonical_json

    current = None if stage.force else stage.ledger.current("loop_state", stage.partition)
    if current is None:
        return ()
    made = stage.ledger.get(current.owner)
    tested = {role: ref.owner for role, ref in stage.ledger.edges(made.artifact_id) if role in GATE_READS}
    if (made.code_digest, made.recipe_json, tested) != (
        stage.code,
        canonical_json(_settings(stage, gate=True)),
        {role: ref.owner for role, ref in read.items()},
    ):
        return ()
    return tuple(promotion.Verdict(model, **values) for model, values in made.metrics["promotion"].items())


def _decide_policy(stage: Stage, read: Mapping[str, ArtifactRef]) -> promotion.Verdict:
    if CANDIDATE + "policy" not in read:
        return promotion.passed_on("policy")
    rows = evaluations(stage.lake, read[CANDIDATE + "policy"])
    before = (
        promotion.validation_outcomes(evaluations(stage.lake, read[INCUMBENT]))
        if INCUMBENT in read
        else promotion.validation_outcomes(rows, stop=0)
    )
    return promotion.decide_policy(promotion.validation_outcomes(rows), before, stage.recipe.promotion)


def _decide_world_model(stage: Stage, read: Mapping[str, ArtifactRef]) -> promotion.Verdict:
    if CANDIDATE + "world_model" not in read:
        return promotion.passed_on("world_model")
    if MEASURED not in read:
        return promotion.not_measured("world_model", "world_model_metrics is not in the ledger")
    metric = promotion.false_positive_metric(stage.recipe.score.alpha)
    candidate = read[CANDIDATE + "world_model"].content_digest
    rows = [
        row
        for row in evaluations(stage.lake, read[MEASURED])
        if (row["task"], row["metric"], row["world_model"]) == (ALL, metric, candidate)
    ]
    return promotion.decide_world_model(rows[0] if rows else None, stage.recipe.promotion)


def evaluations(lake: Lake, ref: ArtifactRef) -> list[dict[str, Any]]:
    """An artifact's rows of `evaluations`, their details as values."""
    rows = lake.read(ref).table("evaluations").to_pylist()
    return [{**row, "detail": json.loads(row["detail_json"])} for row in rows]


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


loop_state = stage_asset(
    "loop_state",
    "The state of the loop: iteration 01 starts from the foundation, iteration i from what i-1 left. A policy or world "
    "model that the promotion gate refuses is not passed on: the one before is kept, and this says so.",
    plan=plan,
    make=make,
    check=check,
    group="iteration",
    deps=("base_policy", "pretrained_world_model", "pretrained_reward_model", "autoencoder"),
    kinds=("json",),
    checks=(checks.PROMOTED,),
)
