"""The policy update: flow matching on the training set (Eq. 4), or reinforcement learning of its noise; the best stop
is kept.

Here: what goes into the update, and its measurements. Not here: the updates (learners/imitation.py) and which
episodes count how much (training_set.py). With nothing to learn from, the policy is passed on and says so.

Every stopping point, and the policy that training started from (stop 0), is measured on validation starts, at the noise
of [evaluation], when there are stopping points to choose from or a promotion gate to inform; `validation_success` rows
keep the outcomes. The evaluation's starts decide nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.loop_roles import REAL
from vlaw_assets.assets.stage import Plan, Stage, Work
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.state import read_state, real_so_far
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.success import VALIDATION, rate
from vlaw_models.robots.tabletop.renderer import renderer_name

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef
    from vlaw_models.config import EvaluationConfig
    from vlaw_models.episodes import Episode
    from vlaw_models.learners.imitation import Lessons
    from vlaw_models.learners.stopping import Outcomes

DSRL = "dsrl"
IMITATION = ("batch_size", "learning_rate", "imagined_fraction", "use_real", "frozen_encoder")
"""Keys of [policy] that flow matching reads; noise-space learning has a table of its own."""


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    config = recipe.policy
    from_base = config.start == "base"
    start = stage.require_foundation("base_policy") if from_base else state.policy
    parents = {"policy": start, **(real_so_far(stage, state) if config.use_real else {})}
    if config.update != DSRL:
        parents |= {
            "training_set": stage.require("training_set"),
            "imagined_rollouts": stage.require("imagined_rollouts"),
        }
    return Plan(kind="policy", recipe=identity_of(stage), parents=parents, chosen_by=None if from_base else state.ref)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    recipe, config = stage.recipe, stage.recipe.policy
    own, imagined, lessons = _inputs(stage, work)
    work.metrics |= {"real": len(own), "imagined": len(imagined)}
    steps = recipe.dsrl.steps if config.update == DSRL else config.steps
    if not (own or imagined) or not (steps or config.stops):
        stage.log.warning("there is nothing to learn from: the policy is passed on unchanged")
        work.pass_on("policy")
        return
    from vlaw_models.learners.imitation import finetune_policy

    log = finetune_policy(
        work.read("policy").checkpoint(),
        own,
        imagined,
        config,
        work.draft.checkpoint_dir(),
        seed=stage.seed,
        lessons=lessons,
        dsrl=recipe.dsrl,
        evaluate=_evaluator(stage),
        progress=stage.progress,
    )
    work.show("what it learned from", (own[:2] + imagined[:2]))
    _keep_outcomes(work, log)
    work.learned(log)


def show(_stage: Stage, _plan: Plan, ref: ArtifactRef) -> Mapping[str, Any]:
    metrics = ref.metrics
    counts = {key: metrics.get(key, 0) for key in ("real", "imagined", "stop")}
    return {**counts, "passed_on": bool(metrics.get("passed_on"))}


def identity_of(stage: Stage) -> dict[str, Any]:
    """The keys that this policy depends on: those its update reads, and those of its measurement if there is one.

    Whether the gate is on enters only by that. `start` and `beta` are not here: the parents' digests tell them.
    """
    recipe = stage.recipe
    config = recipe.policy
    keys = ["update", "ema", "stops" if config.stops else "steps", *IMITATION]
    tables: dict[str, Any] = {"seed": stage.seed}
    if config.update == DSRL:
        keys = ["update", "ema", *(["stops"] if config.stops else [])]
        tables |= recipe.tables(DSRL)
        if config.stops:
            tables[DSRL].pop("steps")
    tables["policy"] = {key: getattr(config, key) for key in keys}
    validation = validation_of(stage)
    if validation is not None:
        tables["validation"] = {
            "tasks": list(recipe.tasks),
            "noise_seed": recipe.seed,
            "renderer": renderer_name(),
            **{key: getattr(validation, key) for key in ("episodes_per_task", "num_steps", "noise_scale")},
        }
    return tables


def validation_of(stage: Stage) -> EvaluationConfig | None:
    """How policies are measured while they are made; None where nobody asks."""
    recipe = stage.recipe
    per_task = recipe.policy.validation_per_task
    if not per_task or not (recipe.policy.stops or recipe.promotion.enabled):
        return None
    return dataclasses.replace(recipe.evaluation, episodes_per_task=per_task)


def _evaluator(stage: Stage) -> Callable[[Any], Outcomes] | None:
    config, recipe = validation_of(stage), stage.recipe
    if config is None:
        return None

    def evaluate(measured: Any) -> Outcomes:
        from vlaw_models.rollouts.collect import evaluate_loaded

        episodes = evaluate_loaded(
            measured, recipe.tasks, config, purpose="validation", noise_seed=recipe.seed, progress=stage.progress
        )
        return {task: [bool(e.success) for e in episodes if e.task == task] for task in recipe.tasks}

    return evaluate


def _inputs(stage: Stage, work: Work) -> tuple[list[Episode], list[Episode], Lessons | None]:
    """Real and imagined episodes with their frames, and what the update is told about each."""
    real = [role for role in work.parents if role.startswith(REAL)]
    if stage.recipe.policy.update == DSRL:
        return [episode for role in real for episode in work.read(role).episodes(frames=True)], [], None
    from vlaw_models.learners.imitation import Lessons

    members = {row["episode_id"]: row for row in work.read("training_set").members().to_pylist() if row["weight"] > 0}
    own = [episode for role in real for episode in work.read(role).episodes(frames=True, episode_ids=members)]
    imagined = work.read("imagined_rollouts").episodes(frames=True, episode_ids=members)
    told = [[members[e.episode_id] for e in episodes] for episodes in (own, imagined)]
    weights, positive = ([[read(row) for row in rows] for rows in told] for read in (_weight, _positive))
    return own, imagined, Lessons(weights[0], weights[1], positive[0], positive[1])


def _weight(member: Mapping[str, Any]) -> float:
    return member["weight"]


def _positive(member: Mapping[str, Any]) -> bool:
    return not member["source"].endswith("_negative")


def _keep_outcomes(work: Work, log: dict[str, Any]) -> None:
    """Moves the outcomes of every stop from the log to rows of `evaluations`; the log keeps the rates."""
    from vlaw_models.rollouts.seeds import start_seeds

    outcomes: dict[int, Outcomes] = log.pop("outcomes", {})
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

        work.check(checks.evaluations_fit_schema(rows))
        work.draft.write_evaluations(rows)
        log["validation"] = {str(stop): pooled(found) for stop, found in outcomes.items()}


policy = stage_asset(
    "policy",
    "The next policy: updated from real and imagined episodes, at its best stopping point on validation starts.",
    plan=plan,
    make=make,
    show=show,
    group="iteration",
    deps=("loop_state", "training_set", "real_rollouts", "imagined_rollouts", "base_policy"),
    pool=POOL,
    kinds=("pytorch",),
    checks=(checks.FINITE, checks.SCHEMA),
)
