"""Real rollouts (VLAW Algorithm 1, line 3), and held-out ones that nothing is trained on: rolled out on the simulated
robot, or taken from recordings or the inbox (`source`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.inbox_recordings import INBOX, plan_of_inbox
from vlaw_assets.assets.recordings import NO_SIMULATOR, is_recorded, plan_of, take, taken_from
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.assets.written import draw, write
from vlaw_assets.pipeline import checks
from vlaw_models.config import RolloutConfig, identifying
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.rollouts.seeds import HELD_OUT_SEEDS

if TYPE_CHECKING:
    from vlaw_models.episodes import Episode


def plan(stage: Stage) -> Plan:
    config = stage.recipe.rollouts
    if config.source == INBOX:
        return plan_of_inbox(stage)
    if is_recorded(config.source):
        return plan_of(
            stage,
            "real_rollouts",
            config.source,
            purpose="rollout",
            tasks=stage.recipe.tasks,
            per_task=config.episodes_per_task,
            number=stage.iteration,
            shares=stage.recipe.iterations,
            world_model=True,
        )
    return _plan(stage, "real_rollouts", _without_source(stage.recipe.tables("rollouts"), "rollouts"))


def make(stage: Stage, plan: Plan, work: Work) -> None:
    if taken_from(plan):
        episodes = take(stage, plan, work, policy=plan.recipe["recorded"].get("policy", ""))
        work.check(checks.success_varies(e.success for e in episodes if e.success is not None))
        return
    batches = _collect(stage, work, stage.recipe.rollouts, seed=stage.recipe.seed)
    episodes = _keep(stage, work, batches, stage.recipe.rollouts.episodes_per_task, "rollout")
    work.check(checks.success_varies(bool(e.success) for e in episodes))


def plan_validation(stage: Stage) -> Plan:
    metrics = stage.recipe.world_model_metrics
    if is_recorded(metrics.source):
        return plan_of(
            stage,
            "validation_rollouts",
            metrics.source,
            purpose="validation",
            tasks=stage.recipe.tasks,
            per_task=metrics.clips_per_task,
            number=stage.iteration,
        )
    return _plan(
        stage,
        "validation_rollouts",
        _without_source({"validation": identifying(_validation(stage))}, "validation"),
    )


def make_validation(stage: Stage, plan: Plan, work: Work) -> None:
    """Their starts are those of an experiment seed that no recipe may have, so nothing is ever trained on them."""
    if taken_from(plan):
        take(stage, plan, work)
        return
    config = _validation(stage)
    batches = _collect(stage, work, config, seed=HELD_OUT_SEEDS + stage.recipe.seed)
    _keep(stage, work, batches, config.episodes_per_task, "validation")


def _without_source(tables: dict[str, Any], name: str) -> dict[str, Any]:
    """Where they come from, and when, is not part of how they are made."""
    return {**tables, name: {key: value for key, value in tables[name].items() if key not in ("source", "start")}}


def _plan(stage: Stage, kind: str, tables: Mapping[str, Any]) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    simulator = simulator_of(stage.robot, needed_by=stage.asset, remedy=NO_SIMULATOR)
    own = {
        "tasks": list(recipe.tasks),
        "seed": recipe.seed,
        "iteration": stage.iteration,
        "robot": stage.robot.identity(),
        "renderer": simulator.renderer(),
    }
    return Plan(kind=kind, recipe={**tables, **own}, parents={"policy": state.policy}, chosen_by=state.ref)


def _validation(stage: Stage) -> RolloutConfig:
    """As the recipe's rollouts, as many and as long as the measurements need; none ends early."""
    metrics = stage.recipe.world_model_metrics
    return dataclasses.replace(
        stage.recipe.rollouts,
        episodes_per_task=metrics.clips_per_task,
        num_steps=metrics.num_steps,
        done_above=None,
    )


def _collect(stage: Stage, work: Work, config: RolloutConfig, *, seed: int) -> Iterator[list[Episode]]:
    from vlaw_models.rollouts.collect import collect_rollouts

    return collect_rollouts(
        work.read("policy").checkpoint(),
        stage.recipe.tasks,
        config,
        robot=stage.robot,
        iteration=stage.iteration,
        seed=seed,
        progress=stage.progress,
        spread=stage.spread(work),
    )


def _keep(stage: Stage, work: Work, batches: Iterator[list[Episode]], per_task: int, purpose: str) -> list[Episode]:
    """Checks the episodes and writes them with the policy that made them; returns them without frames."""
    tasks = stage.recipe.tasks
    done = write(
        work,
        batches,
        purpose=purpose,
        tasks=tasks,
        labelled=True,
        robot=stage.robot,
        world=stage.robot.world,
        policy=work.parents["policy"].content_digest,
    )
    work.check(checks.counts_as_asked((e.task for e in done.episodes), dict.fromkeys(tasks, per_task)))
    work.metrics["successes"] = done.successes
    work.metrics |= done.savings
    draw(work, done)
    return done.episodes


real_rollouts = stage_asset(
    "real_rollouts",
    "Episodes of the policy that this iteration starts with, successes and failures, labelled by the world.",
    plan=plan,
    make=make,
    group="iteration",
    deps=("loop_state", "recorded_episodes"),
    pool=POOL,
    kinds=("deltalake", "lance"),
    checks=(*checks.EPISODES, checks.VARIES),
)
validation_rollouts = stage_asset(
    "validation_rollouts",
    "Held-out real episodes with every frame: the clips on which world model and reward model are measured.",
    plan=plan_validation,
    make=make_validation,
    group="evaluation",
    deps=("loop_state", "recorded_episodes"),
    pool=POOL,
    kinds=("deltalake", "lance"),
    checks=checks.EPISODES,
)
