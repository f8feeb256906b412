"""Where the loop closes: the state (policy, world model, reward model, real dataset) that an iteration starts with.

Here: resolving that state from the ledger, asking the promotion gate (vlaw_assets/promotion.py) whether a new model may
replace the one before. Not here: reading the state back in later stages (state.py). Why an asset of its own: Dagster's graph
must be acyclic whatever the partition offsets, so the edge from iteration i-1 to i is the one edge that is not
declared. It is recorded all the same: the ledger has an edge to every artifact the state consists of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from vlaw_assets import checks, promotion
from vlaw_assets.assets.stage import Stage, Work, stage_asset
from vlaw_assets.loop_roles import INCUMBENT, JUDGED, MEASURED, MODELS, REAL
from vlaw_assets.partitions import partition_key
from vlaw_assets.summary import ALL
from vlaw_models.errors import VlawError

FOUNDATION_STATE = {"policy": "base_policy", "world_model": "pretrained_world_model",
                    "reward_model": "pretrained_reward_model"}


@dataclass(frozen=True)
class Before:
    """What the iteration before left, after the promotion gate."""

    parents: dict[str, Any]
    """Role -> artifact: the state, and what the gate judged and read."""
    verdicts: tuple[promotion.Verdict, ...] = ()


@stage_asset(group="iteration", kinds=("json",), checks=(checks.PROMOTED,),
             deps=("base_policy", "pretrained_world_model", "pretrained_reward_model", "autoencoder"))
def loop_state(stage: Stage) -> dg.MaterializeResult:
    """The state of the loop: iteration 01 starts from the foundation, iteration i from what i-1 left.

    A policy or world model that the promotion gate refuses is not passed on: the one before is kept, and this says so. Every
    checkpoint of the state is hashed again before it is passed on.
    """
    _check_recipe(stage)
    before = _state_before(stage)
    parents, tables = before.parents, {"preset": stage.recipe.preset}
    if before.verdicts:
        tables |= {**stage.recipe.tables("promotion"), "score": {"alpha": stage.recipe.score.alpha}}
    with stage.commit("loop_state", recipe=tables, parents=parents) as work:
        if work.wanted:
            for role in parents:
                handle = work.read(role)
                if role in MODELS:
                    handle.checkpoint()
            folder = work.draft.checkpoint_dir()
            _write(folder / "state.json", {role: ref.content_digest for role, ref in parents.items()})
            if before.verdicts:
                verdicts = {verdict.model: verdict.as_json() for verdict in before.verdicts}
                _write(folder / "promotion.json", verdicts)
                work.metrics["promotion"] = verdicts
        _tell(stage, work, before)
    rows = [f"| {role} | {ref.asset} | {ref.partition or 'foundation'} | `{ref.content_digest[:16]}` |"
            for role, ref in parents.items()]
    return stage.result(work, promotion=dg.MetadataValue.json(work.draft.ref.metrics.get("promotion", {})),
                        state=dg.MetadataValue.md("\n".join(["| role | asset | partition | content |", "|---|---|---|---|", *rows])))


def _check_recipe(stage: Stage) -> None:
    recipe, foundation = stage.recipe, stage.foundation
    if stage.iteration > recipe.iterations:
        raise VlawError(f"experiment {recipe.name} has {recipe.iterations} iterations, not {stage.iteration}",
                        where=f"partition {stage.partition}", remedy=f"Raise 'iterations' in {recipe.name}.toml.")
    if recipe.preset != foundation.preset:
        raise VlawError(f"recipe {recipe.name} is for preset {recipe.preset!r}, the foundation is {foundation.preset!r}",
                        where=f"partition {stage.partition}",
                        remedy="Set the same preset in the recipe and in foundation.toml.")


def _state_before(stage: Stage) -> Before:
    """The state that this iteration starts with. Raises VlawError where it is missing."""
    ledger, experiment, iteration = stage.ledger, stage.experiment, stage.iteration
    if iteration == 1:
        return Before({role: ledger.require(asset, "") for role, asset in FOUNDATION_STATE.items()})
    before = partition_key(experiment, iteration - 1)
    found = {asset: ledger.current(asset, before) for asset in ("loop_state", REAL, *MODELS)}
    missing = [asset for asset, ref in found.items() if ref is None]
    if missing:
        raise VlawError(
            f"iteration {iteration:02d} of {experiment} needs {iteration - 1:02d}: {', '.join(missing)} missing",
            where=f"loop_state, partition {experiment}|{iteration:02d}",
            remedy=f"Materialize partition '{before}' first: vlaw run --experiment {experiment} --iterations {iteration}")
    old = dict(ledger.edges(found["loop_state"].owner))
    earlier = {role: ref for role, ref in old.items() if role.startswith(REAL)}
    real = {**earlier, f"{REAL}_{iteration - 1:02d}": found[REAL]}
    if not stage.recipe.promotion.enabled:
        return Before({**{role: found[role] for role in MODELS}, **real})
    verdicts, read = [], {}
    for judge, role in ((_judge_policy, "policy"), (_judge_world_model, "world_model")):
        verdict, evidence = judge(stage, found[role], old[role])
        verdicts.append(verdict)
        read |= evidence
        if not verdict.promoted:
            found[role] = old[role]
    return Before({**{role: found[role] for role in MODELS}, **real, **read}, tuple(verdicts))


def _judge_policy(stage: Stage, new: Any, old: Any) -> tuple[promotion.Verdict, dict[str, Any]]:
    """The verdict on a new policy, and what was read for it by role."""
    if new.location == old.location:
        return promotion.passed_on("policy"), {}
    lake, read = stage.lake, {f"{JUDGED}policy": new}
    rows = _evaluations(lake, new)
    after = promotion.validation_outcomes(rows)
    started_with = dict(stage.ledger.edges(new.owner)).get("policy")
    if started_with is not None and started_with.location == old.location:
        before = promotion.validation_outcomes(rows, stop=0)
    else:  # it was not trained from the policy that it would replace: that one's own measurement is on the same starts
        before = promotion.validation_outcomes(_evaluations(lake, old))
        read |= {INCUMBENT: old}
    return promotion.judge_policy(after, before, stage.recipe.promotion), read


def _judge_world_model(stage: Stage, new: Any, old: Any) -> tuple[promotion.Verdict, dict[str, Any]]:
    if new.location == old.location:
        return promotion.passed_on("world_model"), {}
    read = {f"{JUDGED}world_model": new}
    measured = stage.ledger.current(MEASURED, partition_key(stage.experiment, stage.iteration - 1))
    if measured is None:
        return promotion.not_measured("world_model", "world_model_metrics is not in the ledger"), read
    metric = promotion.false_positive_metric(stage.recipe.score.alpha)
    rows = [row for row in _evaluations(stage.lake, measured)
            if (row["task"], row["metric"], row["world_model"]) == (ALL, metric, new.content_digest)]
    return promotion.judge_world_model(rows[0] if rows else None, stage.recipe.promotion), {**read, MEASURED: measured}


def _evaluations(lake: Any, ref: Any) -> list[dict[str, Any]]:
    """An artifact's rows of `evaluations`, their details as values."""
    rows = lake.read(ref).table("evaluations").to_pylist()
    return [{**row, "detail": json.loads(row["detail_json"])} for row in rows]


def _tell(stage: Stage, work: Work, before: Before) -> None:
    """Says what the gate decided: a finding for the asset's page, a warning in the log for each model refused."""
    refused = [verdict for verdict in before.verdicts if not verdict.promoted]
    texts = [f"{verdict.model} {'promoted' if verdict.promoted else 'refused'}: {verdict.reason}" for verdict in before.verdicts]
    work.check(checks.Finding(checks.PROMOTED, passed=not refused, blocking=False,
                              text="; ".join(texts) or "no gate: iteration 01, or [promotion] enabled = false"))
    for verdict in refused:
        kept = before.parents[verdict.model]
        line = f"the new {verdict.model} is refused ({verdict.reason}); the loop keeps {kept.name} {kept.content_digest[:12]}"
        stage.context.log.warning(line)
        stage.progress(1, 1, line)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
