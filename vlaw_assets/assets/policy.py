"""The policy update: the recipe's learner fits the policy to the training set, and the best stop is kept.

With nothing new to learn from, the policy is passed on and says so.

Every stopping point, and the policy that training started from (stop 0), is measured on validation starts, at the noise
of [evaluation], when there are stopping points to choose from or a promotion gate to inform; `validation_success` rows
keep the outcomes. The evaluation's starts decide nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets import practice
from vlaw_assets.assets.stage import PRACTICE, Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state, real_so_far, rehearsed
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.loop_roles import REAL, REHEARSED
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.success import VALIDATION, Rate, rate
from vlaw_models.robots.simulator import simulator_of

if TYPE_CHECKING:
    from vlaw_models.config import EvaluationConfig
    from vlaw_models.learners.base import Examples
    from vlaw_models.learners.stopping import Outcomes


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    config = recipe.policy
    from_base = config.start == "base"
    start = stage.require_foundation("base_policy") if from_base else state.policy
    practises = bool(recipe.learner.practises)
    parents = {"policy": start, **(real_so_far(stage, state) if config.use_real and not practises else {})}
    parents |= practice.parents_of(stage, state) if practises else {}
    parents |= {role: ref for role, ref in rehearsed(stage, state).items() if "reward_scores" not in role}
    parents["training_set"] = stage.require("training_set")
    if recipe.learner.imagined:
        parents["imagined_rollouts"] = stage.require("imagined_rollouts")
    return Plan(kind="policy", recipe=identity_of(stage), parents=parents, chosen_by=None if from_base else state.ref)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    config, learner = stage.recipe.policy, stage.recipe.learner
    updates = bool(config.stops or learner.updates(config))
    practising = practice.Practising(stage, work) if learner.practises and updates else None
    real, imagined, again = _examples(work)
    kinds = {"real": real, "imagined": imagined, "rehearsed": again}
    work.metrics |= {name: len(examples.episodes) for name, examples in kinds.items()}
    if not (real.episodes or imagined.episodes or practising) or not updates:
        stage.log.warning("there is nothing new to learn from: the policy is passed on unchanged")
        work.pass_on("policy")
        return
    from vlaw_models.learners.policy import update_policy

    log = stage.train(
        work,
        update_policy,
        work.read("policy").checkpoint(),
        learner,
        real,
        imagined,
        config,
        work.draft.checkpoint_dir(),
        rehearsed=again,
        seed=stage.seed,
        evaluate=_evaluator(stage),
        checkpoints=stage.checkpoints(work),
        progress=stage.progress,
        practice=None if practising is None else practising.practice,
    )
    if practising is not None:
        practising.finish(stage)
    validation = _keep_outcomes(work, log)
    shown = [*real.episodes[:2], *imagined.episodes[:2]] if practising is None else practising.shown
    work.learned(log, validation, shown)


def identity_of(stage: Stage) -> dict[str, Any]:
    """The keys that this policy depends on: those its learner reads, and those of its measurement if there is one.

    Whether the gate is on enters only by that. `start` and what weighs members are not here: the parents' digests tell
    them.
    """
    recipe = stage.recipe
    tables: dict[str, Any] = {"seed": stage.seed, **recipe.learner_tables()}
    tables |= {PRACTICE: practice.tables_of(stage)} if recipe.learner.practises else {}
    validation = validation_of(stage)
    if validation is not None:
        simulator = simulator_of(
            stage.robot,
            needed_by="policy, to measure its stopping points and for the promotion gate,",
            remedy="Set policy.validation_per_task = 0, policy.stops = [] and promotion.enabled = false.",
        )
        tables["validation"] = {
            "tasks": list(recipe.tasks),
            "noise_seed": recipe.seed,
            "robot": stage.robot.identity(),
            "renderer": simulator.renderer(),
            **{key: getattr(validation, key) for key in ("episodes_per_task", "num_steps", "noise_scale")},
        }
    return tables


def validation_of(stage: Stage) -> EvaluationConfig | None:
    """How policies are measured while they are made; None where nobody asks."""
    recipe = stage.recipe
    if not recipe.measures_policies:
        return None
    return dataclasses.replace(recipe.evaluation, episodes_per_task=recipe.policy.validation_per_task)


def _evaluator(stage: Stage) -> Callable[[Any], Outcomes] | None:
    config, recipe = validation_of(stage), stage.recipe
    if config is None:
        return None

    def evaluate(measured: Any) -> Outcomes:
        from vlaw_models.rollouts.collect import evaluate_loaded

        episodes = evaluate_loaded(
            measured,
            recipe.tasks,
            config,
            robot=stage.robot,
            purpose="validation",
            noise_seed=recipe.seed,
            progress=stage.progress,
        )
        return {task: [bool(e.success) for e in episodes if e.task == task] for task in recipe.tasks}

    return evaluate


def _examples(work: Work) -> tuple[Examples, Examples, Examples]:
    """The members among the real, the imagined and the rehearsed episodes, with their frames."""
    from vlaw_models.learners.base import Examples

    members = {row["episode_id"]: row for row in work.read("training_set").members().to_pylist() if row["weight"] > 0}

    def examples(roles: Iterable[str]) -> Examples:
        episodes = [e for role in roles for e in work.read(role).source(episode_ids=members)]
        return Examples.of_rows(episodes, members)

    return (
        examples(role for role in work.parents if role.startswith(REAL)),
        examples(role for role in work.parents if role == "imagined_rollouts"),
        examples(role for role in work.parents if role.startswith(REHEARSED)),
    )


def _keep_outcomes(work: Work, log: dict[str, Any]) -> dict[int, Rate]:
    """Moves the outcomes of every stop from the log to rows of `evaluations`; the log keeps the rates. Returns success
    over all tasks by stop."""
    from vlaw_models.rollouts.seeds import start_seeds

    outcomes: dict[int, Outcomes] = {int(stop): found for stop, found in log.pop("outcomes", {}).items()}
    rows = []
    for stop, found in outcomes.items():
        for task, successes in found.items():
            seen = rate(sum(successes), len(successes))
            # The seeds are consecutive; a study's report shows that none of them is an evaluation's.
            first = start_seeds("validation", task, 0, 0, 1)[0]
            detail = {
                "stop": stop,
                "chosen": stop == log["stop"],
                "outcomes": [int(success) for success in successes],
                "first_seed": first,
            }
            rows.append(
                {
                    "task": task,
                    "metric": VALIDATION,
                    "policy": "",
                    "trials": seen.trials,
                    "successes": seen.successes,
                    "value": seen.value,
                    "low": seen.low,
                    "high": seen.high,
                    "detail": detail,
                }
            )
    if rows:
        from vlaw_models.learners.stopping import pooled

        work.check(checks.rows_fit_schema("evaluations", rows))
        work.draft.write_evaluations(rows)
        log["validation"] = {str(stop): pooled(found) for stop, found in outcomes.items()}
    every = {stop: [success for task in found.values() for success in task] for stop, found in outcomes.items()}
    return {stop: rate(sum(successes), len(successes)) for stop, successes in every.items() if successes}


policy = stage_asset(
    "policy",
    "The next policy: updated from real and imagined episodes, at its best stopping point on validation starts.",
    plan=plan,
    make=make,
    group="iteration",
    deps=(
        "loop_state",
        "training_set",
        "real_rollouts",
        "imagined_rollouts",
        "base_policy",
        "expert_demonstrations",
        # of a learner that practises in the world model
        "world_model",
        "reward_model",
        "autoencoder",
        "co_training_data",
        "latents",
        "corpus_latents",
    ),
    pool=POOL,
    kinds=("pytorch",),
    checks=(checks.FINITE, checks.SCHEMA),
)
