"""Policy evaluation on held-out seeds: the policy an iteration starts with, and the one it ends with.

Here: one function, two assets of the same kind: what iteration 02 starts with is what iteration 01 ended with, so its
evaluation is found in the ledger. The seeds are the same for every experiment: comparisons are paired.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.loop_state import read_state
from vlaw_assets.assets.stage import POOL, Stage, Work, stage_asset
from vlaw_assets.summary import Rate, markdown, rates_of, table

CHECKS = (checks.SCHEMA, checks.FINITE, checks.COUNTS, checks.VARIES)


@stage_asset(group="evaluation", deps=("loop_state",), modules=code.ROLLOUTS, pool=POOL, kinds=("deltalake",), checks=CHECKS)
def start_evaluation(stage: Stage) -> dg.MaterializeResult:
    """Success of the policy that this iteration starts with, on held-out seeds."""
    return _evaluate(stage, read_state(stage).policy)


@stage_asset(group="evaluation", deps=("policy",), modules=code.ROLLOUTS, pool=POOL, kinds=("deltalake",), checks=CHECKS)
def policy_evaluation(stage: Stage) -> dg.MaterializeResult:
    """Success of the policy that this iteration made, on the same held-out seeds."""
    return _evaluate(stage, stage.require("policy"))


def _evaluate(stage: Stage, policy: Any) -> dg.MaterializeResult:
    recipe = stage.recipe
    config = recipe.evaluation
    tables = {**recipe.tables("evaluation"), "tasks": list(recipe.tasks)}
    with stage.commit("evaluation", recipe=tables, parents={"policy": policy}) as work:
        if work.wanted:
            from vlaw_models.collect import evaluate_policy

            episodes = evaluate_policy(work.read("policy").checkpoint(), recipe.tasks, config, progress=stage.progress)
            work.check(
                checks.episodes_fit_schema(episodes, tasks=recipe.tasks, judged=True),
                checks.all_finite(episodes),
                checks.counts_as_asked((e.task for e in episodes), dict.fromkeys(recipe.tasks, config.episodes_per_task)),
                checks.success_varies(e.success for e in episodes),
            )
            digest = policy.content_digest
            work.draft.write_episodes(episodes, purpose="evaluation", world="tabletop", policy=digest, world_model="")
            rates = rates_of({(e.task, e.seed): bool(e.success) for e in episodes})
            work.draft.write_evaluations([_row(task, rate, digest) for task, rate in rates.items()])
            work.metrics |= {"success": {task: rate.value for task, rate in rates.items()}, "trials": len(episodes)}
            _show(work, rates)
    return stage.result(work, success=dg.MetadataValue.json(work.draft.ref.metrics.get("success", {})))


def _row(task: str, rate: Rate, policy: str) -> dict[str, Any]:
    return {"task": task, "metric": "success_rate", "policy": policy, "trials": rate.trials, "successes": rate.successes,
            "value": rate.value, "low": rate.low, "high": rate.high}


def _show(work: Work, rates: dict[str, Rate]) -> None:
    if rates:
        from vlaw_assets.plots import success_bars

        work.show_png("success per task", success_bars({"success": rates}))
        work.pictures["table"] = markdown(table({"success": rates}))
