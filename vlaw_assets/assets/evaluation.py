"""Policy evaluation on held-out seeds: the policy an iteration starts with, and the one it ends with, at two noises.

Here: one function, four assets: what iteration 02 starts with is what iteration 01 ended with, so its evaluation is
found in the ledger. The starts are the same for every experiment: comparisons are paired. The policy's noise is seeded
by the recipe's seed. Evaluation on a start that the policy was trained on is refused.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from vlaw_assets.assets.stage import POOL, Stage, Work, stage_asset
from vlaw_assets.assets.state import LoopState, read_state
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.success import Rate, markdown, outcomes_of, rates_of, table
from vlaw_models.robots.tabletop.renderer import renderer_name

CHECKS = (checks.SCHEMA, checks.FINITE, checks.COUNTS, checks.VARIES, checks.HELD_OUT)
OPTIONS = {"group": "evaluation", "pool": POOL, "kinds": ("deltalake",), "checks": CHECKS}
REPORTED, LOW_NOISE = "evaluation", "evaluation_low_noise"
"""Kinds of artifacts: at evaluation.noise_scale, and at evaluation.low_noise_scale."""
TRAINED_ON = ("rollout", "demonstration", "co_training")
"""Purposes of the episodes whose starts must not be evaluated on."""


@stage_asset(deps=("loop_state",), **OPTIONS)
def start_evaluation(stage: Stage) -> dg.MaterializeResult:
    """Success of the policy that this iteration starts with, on held-out seeds."""
    return _evaluate(stage, REPORTED, state=read_state(stage))


@stage_asset(deps=("policy", "start_evaluation"), **OPTIONS)
def policy_evaluation(stage: Stage) -> dg.MaterializeResult:
    """Success of the policy that this iteration made, on the same held-out seeds; with evaluation.stop_early, on as
    many of them as it takes to tell it from the policy the iteration started with."""
    before = stage.require("start_evaluation") if stage.recipe.evaluation.stop_early else None
    return _evaluate(stage, REPORTED, before=before)


@stage_asset(deps=("loop_state",), **OPTIONS)
def start_evaluation_low_noise(stage: Stage) -> dg.MaterializeResult:
    """As start_evaluation, with less of the policy's sampling noise: that alone lifts a small flow policy."""
    return _evaluate(stage, LOW_NOISE, state=read_state(stage))


@stage_asset(deps=("policy",), **OPTIONS)
def policy_evaluation_low_noise(stage: Stage) -> dg.MaterializeResult:
    """As policy_evaluation, with less of the policy's sampling noise."""
    return _evaluate(stage, LOW_NOISE)


def _evaluate(stage: Stage, kind: str, *, state: LoopState | None = None, before: Any = None) -> dg.MaterializeResult:
    """Of the policy of `state`, or else of the one that this iteration made.

    `before`: the evaluation to compare with, for stopping as soon as the comparison is settled.
    """
    policy = state.policy if state else stage.require("policy")
    recipe = stage.recipe
    config = recipe.evaluation
    if kind == LOW_NOISE:
        # The same noise again would say nothing: then there are no trials.
        trials = config.episodes_per_task if config.low_noise_scale != config.noise_scale else 0
        config = dataclasses.replace(config, noise_scale=config.low_noise_scale, episodes_per_task=trials)
    read = {
        key: value for key, value in dataclasses.asdict(config).items() if key not in ("low_noise_scale", "stop_early")
    }
    tables = {"evaluation": read, "tasks": list(recipe.tasks), "noise_seed": recipe.seed, "renderer": renderer_name()}
    if before is not None:
        tables["stop_early"] = True
    parents = {"policy": policy, **({"before": before} if before is not None else {})}
    with stage.commit(kind, recipe=tables, parents=parents, chosen_by=state) as work:
        from vlaw_models.rollouts.collect import evaluate_policy
        from vlaw_models.rollouts.seeds import start_seeds

        planned = [
            (task, seed)
            for task in recipe.tasks
            for seed in start_seeds("evaluation", task, 0, 0, config.episodes_per_task)
        ]
        trained = starts_trained_on(stage.lake, policy)
        # Before the work, and also where it is done: equal weights may have been made from other episodes.
        work.check(held_out(planned, trained))
        if work.wanted:
            options = {"noise_seed": recipe.seed, "progress": stage.progress}
            checkpoint, stopping, counts = (
                work.read("policy").checkpoint(),
                None,
                dict.fromkeys(recipe.tasks, config.episodes_per_task),
            )
            if before is not None and planned:
                from vlaw_models.rollouts.early_stopping import evaluate_until_settled

                outcomes = outcomes_of(work.read("before").table("episodes").to_pylist())
                episodes, stopping = evaluate_until_settled(checkpoint, recipe.tasks, config, outcomes, **options)
                counts = Counter(task for task, _ in interleaved_part(planned, stopping.run))
            else:
                episodes = evaluate_policy(checkpoint, recipe.tasks, config, **options)
            work.check(
                checks.episodes_fit_schema(episodes, tasks=recipe.tasks, judged=True),
                checks.all_finite(episodes),
                checks.counts_as_asked((e.task for e in episodes), counts),
                checks.success_varies(e.success for e in episodes),
                held_out([(e.task, e.seed) for e in episodes], trained),
            )
            digest = policy.content_digest
            work.draft.write_episodes(episodes, purpose="evaluation", world="tabletop", policy=digest, world_model="")
            rates = rates_of({(e.task, e.seed): bool(e.success) for e in episodes})
            work.draft.write_evaluations(
                [
                    _row(task, rate, digest) if stopping is None else _sequential_row(task, rate, digest, stopping)
                    for task, rate in rates.items()
                ]
            )
            if stopping is not None:
                work.metrics["stopped"] = stopping.reason
            work.metrics |= {
                "success": {task: rate.value for task, rate in rates.items()},
                "trials": len(episodes),
                "noise_scale": config.noise_scale,
            }
            _show(work, rates)
    return stage.result(work, success=dg.MetadataValue.json(work.draft.ref.metrics.get("success", {})))


def starts_trained_on(lake: Any, policy: Any) -> dict[tuple[str, int], str]:
    """(task, seed) -> episode, of every real episode of the embedded robot that the policy's closure in the ledger
    holds."""
    return {
        (row["task"], row["seed"]): row["episode_id"]
        for ref in lake.ledger.closure(policy)
        if "episodes" in ref.versions
        for row in lake.read(ref).table("episodes").to_pylist()
        if row["purpose"] in TRAINED_ON and row["world"] == "tabletop"
    }


def held_out(evaluated: Iterable[tuple[str, int]], trained: dict[tuple[str, int], str]) -> checks.Finding:
    """No evaluated (task, seed) is the start of an episode that the policy was made from."""
    evaluated = list(evaluated)
    shared = [
        f"{task}, seed {seed} is the start of {trained[task, seed]}"
        for task, seed in evaluated
        if (task, seed) in trained
    ]
    text = (
        f"evaluation on training starts: {'; '.join(shared[: checks.SHOWN])}"
        if shared
        else f"none of {len(evaluated)} starts is among the {len(trained)} that the policy was made from"
    )
    return checks.Finding(
        checks.HELD_OUT,
        passed=not shared,
        text=text,
        metadata={"shared": len(shared)},
        remedy="Take these episodes out (vlaw quarantine EPISODE --why ...) and make the policy again: vlaw run "
        "--rebuild-stale.",
    )


def _row(task: str, rate: Rate, policy: str) -> dict[str, Any]:
    return {
        "task": task,
        "metric": "success_rate",
        "policy": policy,
        "trials": rate.trials,
        "successes": rate.successes,
        "value": rate.value,
        "low": rate.low,
        "high": rate.high,
    }


def _sequential_row(task: str, rate: Rate, policy: str, stopping: Any) -> dict[str, Any]:
    """As `_row`, with an interval that allows for stopping when it looked good, and why it stopped."""
    from vlaw_models.metrics.sequential import confidence_sequence

    low, high = confidence_sequence(rate.successes, rate.trials)
    return _row(task, rate, policy) | {"low": low, "high": high, "detail": stopping.detail()}


def interleaved_part(planned: Sequence[tuple[str, int]], run: int) -> list[tuple[str, int]]:
    """The first `run` of the planned trials in the order in which they are run."""
    from vlaw_models.metrics.sequential import interleaved

    return interleaved(planned)[:run]


def _show(work: Work, rates: dict[str, Rate]) -> None:
    if rates:
        from vlaw_assets.reports.plots import success_bars

        work.show_png("success per task", success_bars({"success": rates}))
        work.texts["table"] = markdown(table({"success": rates}))
