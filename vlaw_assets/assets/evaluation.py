"""Policy evaluation on held-out seeds: the policy an iteration starts with, and the one it ends with, at two noises.

One stage, four assets: what iteration 02 starts with is what iteration 01 ended with, so its evaluation is found in the
ledger. The starts are the same for every experiment: comparisons are paired. The policy's noise is seeded by the
recipe's seed. Evaluation on a start that the policy was trained on is refused.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from vlaw_assets.assets.origins import RECORDED
from vlaw_assets.assets.recordings import NO_SIMULATOR, is_recorded, plan_of, take
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.success import Rate, outcomes_of, rates_of, trials_of
from vlaw_models.config import EvaluationConfig
from vlaw_models.robots.simulator import simulator_of

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.episodes import Episode
    from vlaw_models.progress import Progress
    from vlaw_models.robots.spec import RobotSpec

REPORTED, LOW_NOISE = "evaluation", "evaluation_low_noise"
"""Kinds of artifacts: at evaluation.noise_scale, and at evaluation.low_noise_scale."""
BEFORE = {
    "policy_evaluation": "start_evaluation",
    "policy_evaluation_low_noise": "start_evaluation_low_noise",
}
"""Evaluation of what an iteration made -> the one of what it started with."""
TRAINED_ON = ("rollout", "demonstration", "co_training", "near_success")
"""Purposes of the episodes whose starts must not be evaluated on."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan(Plan):
    """What is evaluated, and how."""

    config: EvaluationConfig

    def trials(self) -> list[tuple[str, int]]:
        """All (task, start seed) that are planned."""
        from vlaw_models.rollouts.seeds import start_seeds

        return [
            (task, seed)
            for task in self.recipe["tasks"]
            for seed in start_seeds("evaluation", task, 0, 0, self.config.episodes_per_task)
        ]


def plan(stage: Stage, kind: str) -> Plan:
    """Of the policy that this iteration made; with evaluation.stop_early until it can be told from the one before."""
    if is_recorded(stage.recipe.evaluation.source):
        return _plan_recorded(stage, kind, stage.require("policy"), stage.iteration)
    parents = {"policy": stage.require("policy")}
    if kind == REPORTED and stage.recipe.evaluation.stop_early:
        parents["before"] = stage.require("start_evaluation")
    return _plan(stage, kind, parents)


def plan_start(stage: Stage, kind: str) -> Plan:
    """Of the policy that this iteration starts with."""
    state = read_state(stage)
    if is_recorded(stage.recipe.evaluation.source):
        return _plan_recorded(stage, kind, state.policy, stage.iteration - 1, chosen_by=state.ref)
    return _plan(stage, kind, {"policy": state.policy}, chosen_by=state.ref)


def _plan(
    stage: Stage, kind: str, parents: Mapping[str, ArtifactRef], chosen_by: ArtifactRef | None = None
) -> EvaluationPlan:
    recipe, config = stage.recipe, stage.recipe.evaluation
    if kind == LOW_NOISE:
        # The same noise again would say nothing: then there are no trials.
        trials = config.episodes_per_task if config.low_noise_scale != config.noise_scale else 0
        config = dataclasses.replace(config, noise_scale=config.low_noise_scale, episodes_per_task=trials)
    read = {
        key: value
        for key, value in dataclasses.asdict(config).items()
        if key not in ("low_noise_scale", "stop_early", "source")
    }
    simulator = simulator_of(stage.robot, needed_by=stage.asset, remedy=NO_SIMULATOR)
    tables = {
        "evaluation": read,
        "tasks": list(recipe.tasks),
        "noise_seed": recipe.seed,
        "robot": stage.robot.identity(),
        "renderer": simulator.renderer(),
    }
    if "before" in parents:
        tables["stop_early"] = True
    return EvaluationPlan(kind=kind, recipe=tables, parents=parents, chosen_by=chosen_by, config=config)


def _plan_recorded(
    stage: Stage, kind: str, policy: ArtifactRef, number: int, chosen_by: ArtifactRef | None = None
) -> Plan:
    """Trials that were recorded on the robot. `number`: how many updates the policy has had, for "{iteration}"."""
    config = stage.recipe.evaluation
    # A recording was made at one noise of the policy: of the other there are no trials.
    per_task = config.episodes_per_task if kind == REPORTED else 0
    found = plan_of(
        stage, kind, config.source, purpose="evaluation", tasks=stage.recipe.tasks, per_task=per_task, number=number
    )
    return dataclasses.replace(found, parents={**found.parents, "policy": policy}, chosen_by=chosen_by)


def check(stage: Stage, plan: Plan, work: Work) -> None:
    """Also where the work is done already: equal weights may have been made from other episodes."""
    if isinstance(plan, EvaluationPlan):
        trained = starts_trained_on(stage.lake, plan.parents["policy"], stage.robot)
        work.check(held_out(plan.trials(), trained))


def make(stage: Stage, plan: Plan, work: Work) -> None:
    if isinstance(plan, EvaluationPlan):
        _roll_out(stage, plan, work)
    elif plan.recipe["recorded"]["per_task"]:
        digest = plan.parents["policy"].content_digest
        episodes = take(stage, plan, work, policy=digest, last_frame=True)
        work.check(checks.success_varies(bool(e.success) for e in episodes), _not_trained_on(stage, plan, episodes))
        _write(stage, work, episodes, digest, ())


class Asked(TypedDict):
    """What both ways to evaluate a policy are given."""

    robot: RobotSpec
    noise_seed: int
    progress: Progress
    seen: Callable[[Episode], None]


def _roll_out(stage: Stage, plan: EvaluationPlan, work: Work) -> None:
    from vlaw_assets.reports import stage_pictures
    from vlaw_models.rollouts.collect import evaluate_policy

    tasks, config, planned = stage.recipe.tasks, plan.config, plan.trials()
    shown = stage_pictures.WonAndLost()
    options: Asked = {
        "robot": stage.robot,
        "noise_seed": stage.recipe.seed,
        "progress": stage.progress,
        "seen": shown,
    }
    checkpoint, stopping = work.read("policy").checkpoint(), None
    counts: Mapping[str, int] = dict.fromkeys(tasks, config.episodes_per_task)
    if "before" in plan.parents and planned:
        from vlaw_models.rollouts.early_stopping import evaluate_until_settled

        outcomes = outcomes_of(work.read("before").table("episodes").to_pylist())
        episodes, stopping = evaluate_until_settled(checkpoint, tasks, config, outcomes, **options)
        counts = Counter(task for task, _ in interleaved_part(planned, stopping.run))
    else:
        episodes = evaluate_policy(checkpoint, tasks, config, **options, spread=stage.spread(work))
    work.check(
        checks.episodes_fit_schema(episodes, tasks=tasks, labelled=True, robot=stage.robot),
        checks.all_finite(episodes),
        checks.counts_as_asked((e.task for e in episodes), counts),
        checks.success_varies(bool(e.success) for e in episodes),
        _as_planned(episodes, planned),
    )
    digest = plan.parents["policy"].content_digest
    work.draft.write_episodes(episodes, purpose="evaluation", world=stage.robot.world, policy=digest, world_model="")
    if stopping is not None:
        work.metrics["stopped"] = stopping.reason
    work.metrics["noise_scale"] = config.noise_scale
    _write(stage, work, episodes, digest, shown.episodes, stopping)


def _write(
    stage: Stage, work: Work, episodes: Sequence[Episode], digest: str, shown: Sequence[Episode], stopping: Any = None
) -> None:
    """The success rates of the policy with this digest, as rows, figures and a picture with the trials `shown`."""
    from vlaw_assets.reports import stage_pictures

    rates = rates_of({(e.task, e.seed): bool(e.success) for e in episodes})
    work.draft.write_evaluations(
        [
            _row(task, rate, digest) if stopping is None else _sequential_row(task, rate, digest, stopping)
            for task, rate in rates.items()
        ]
    )
    work.metrics |= {"success": {task: rate.value for task, rate in rates.items()}, "trials": len(episodes)}
    work.draw("success per task", lambda: stage_pictures.evaluation(rates, _rates_before(stage), shown))


def _rates_before(stage: Stage) -> dict[str, Rate]:
    """Of the policy that this iteration started with, for the picture alone; {} where that is what is measured."""
    before = BEFORE.get(stage.asset)
    ref = stage.ledger.current(before, stage.partition) if before else None
    return trials_of(stage.lake, ref).rates if ref else {}


def _not_trained_on(stage: Stage, plan: Plan, episodes: Sequence[Episode]) -> checks.Finding:
    """No recording that is evaluated is one that the policy was made from."""
    trained = {
        row["start_episode_id"]: row["episode_id"]
        for ref in stage.ledger.closure(plan.parents["policy"])
        if "episodes" in ref.versions
        for row in stage.lake.read(ref).table("episodes").to_pylist()
        if row["purpose"] in TRAINED_ON and row["start_episode_id"]
    }
    shared = [e.start_episode_id for e in episodes if e.start_episode_id in trained]
    return checks.Finding(
        checks.HELD_OUT,
        passed=not shared,
        text=f"evaluation on recordings that it was trained on: {', '.join(map(str, shared[: checks.SHOWN]))}"
        if shared
        else f"none of {len(episodes)} recordings is among the {len(trained)} that the policy was made from",
        metadata={"shared": len(shared)},
        remedy="Name another recording in [evaluation] source.",
    )


def starts_trained_on(lake: Lake, policy: ArtifactRef, robot: RobotSpec) -> dict[tuple[str, int], str]:
    """(task, seed) -> episode, of every episode on the robot's simulator that the policy's closure in the ledger
    holds."""
    return {
        (row["task"], row["seed"]): row["episode_id"]
        for ref in lake.ledger.closure(policy)
        if "episodes" in ref.versions
        for row in lake.read(ref).table("episodes").to_pylist()
        if row["purpose"] in TRAINED_ON and row["world"] == robot.world and row["label_source"] != RECORDED
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


def _as_planned(episodes: Sequence[Episode], planned: Sequence[tuple[str, int]]) -> checks.Finding:
    """Every trial is one of those that were held against what the policy was made from."""
    others = sorted({(e.task, e.seed) for e in episodes} - set(planned))
    text = f"trials that were not planned: {', '.join(f'{task}, seed {seed}' for task, seed in others[: checks.SHOWN])}"
    return checks.Finding(
        checks.HELD_OUT,
        passed=not others,
        text=text if others else f"all {len(episodes)} trials are on the starts that were looked up",
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


def _asset(asset: str, about: str, *, plan: Callable[[Stage], Plan], deps: Sequence[str]) -> dg.AssetsDefinition:
    return stage_asset(
        asset,
        about,
        plan=plan,
        make=make,
        check=check,
        group="evaluation",
        pool=POOL,
        kinds=("deltalake",),
        checks=(checks.SCHEMA, checks.FINITE, checks.COUNTS, checks.VARIES, checks.HELD_OUT),
        deps=deps,
    )


start_evaluation = _asset(
    "start_evaluation",
    "Success of the policy that this iteration starts with, on held-out seeds.",
    plan=partial(plan_start, kind=REPORTED),
    deps=("loop_state",),
)
policy_evaluation = _asset(
    "policy_evaluation",
    "Success of the policy that this iteration made, on the same held-out seeds; with evaluation.stop_early, on as "
    "many of them as it takes to tell it from the policy the iteration started with.",
    plan=partial(plan, kind=REPORTED),
    deps=("policy", "start_evaluation"),
)
start_evaluation_low_noise = _asset(
    "start_evaluation_low_noise",
    "As start_evaluation, with less of the policy's sampling noise: that alone lifts a small flow policy.",
    plan=partial(plan_start, kind=LOW_NOISE),
    deps=("loop_state",),
)
policy_evaluation_low_noise = _asset(
    "policy_evaluation_low_noise",
    "As policy_evaluation, with less of the policy's sampling noise.",
    plan=partial(plan, kind=LOW_NOISE),
    deps=("policy",),
)
