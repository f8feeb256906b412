"""True outcomes of imagined episodes: their actions played on the robot's simulator. Privileged information.

One score per imagined episode by the judge "simulator", 1 or 0, and what follows from it: how true the judge's labels
are, and how many failed starts imagination truly mended. For measuring, and for the arms with `score.labels =
"simulator"`, which are ceilings; no other training asset reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from vlaw_assets.assets.origins import origins_in
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.pipeline import checks
from vlaw_assets.reports.success import ALL, rate
from vlaw_models.errors import VlawError
from vlaw_models.robots.simulator import simulator_of

STARTS = "starts"
"""Beginning of the roles of the episodes that were imagined from."""
JUDGE = "simulator"
"""Reward model of these scores, where a reward model's have its digest."""


class Try(NamedTuple):
    """One imagined episode: where it started, whether its actions truly succeed, whether the judge accepted it."""

    task: str
    start: str
    true: bool
    accepted: bool | None
    """None where the judge has not scored it."""


def plan(stage: Stage) -> Plan:
    recipe = stage.recipe
    if recipe.score.labels == "simulator":
        simulator_of(stage.robot, needed_by=stage.asset, remedy="Set [score] labels = 'judge'.")
    imagined, scores = stage.require("imagined_rollouts"), stage.require("reward_scores")
    # The starts are those that were imagined from, whatever the recipe says by now.
    starts = {role: ref for role, ref in stage.ledger.edges(imagined.owner) if role.startswith(STARTS)}
    parents = {"imagined_rollouts": imagined, "reward_scores": scores, **starts}
    tables = {
        "tasks": list(recipe.tasks),
        "score": {"alpha": recipe.score.alpha},
        "robot": stage.robot.identity(),
    }
    return Plan(kind="imagined_outcomes", recipe=tables, parents=parents)


def check(stage: Stage, plan: Plan, work: Work) -> None:
    if work.reused is not None:
        _refuse_unknown(stage, plan, work.reused.num_rows)


def make(stage: Stage, plan: Plan, work: Work) -> None:
    starts = [role for role in plan.parents if role.startswith(STARTS)]
    if starts:
        _play(stage, work, starts)
    _refuse_unknown(stage, plan, work.metrics.get("known", 0))


def _refuse_unknown(stage: Stage, plan: Plan, known: int) -> None:
    """Raises VlawError where the labels are to be true outcomes, and none is known."""
    if stage.recipe.score.labels == "simulator" and plan.parents["imagined_rollouts"].num_rows and not known:
        raise VlawError(
            "imagined episodes are to be labelled by the simulator, which does not know their starts",
            where=f"imagined_outcomes [{stage.partition}]",
            remedy="Use starts recorded on the simulated robot, or set [score] labels = 'judge'.",
        )


def _play(stage: Stage, work: Work, roles: Sequence[str]) -> None:
    parents, alpha = work.parents, stage.recipe.score.alpha
    owner = parents["imagined_rollouts"].owner
    origins = {name: origin for role in roles for name, origin in origins_in(work.read(role), stage.robot).items()}
    episodes = work.read("imagined_rollouts").episodes(frames=False)
    judged = [row for row in work.read("reward_scores").table("reward_scores").to_pylist() if row["owner"] == owner]
    unknown = [e.episode_id for e in episodes if e.start_episode_id not in origins]
    work.check(
        checks.Finding(
            checks.KNOWABLE,
            passed=not unknown,
            blocking=False,
            text=f"{len(unknown)} imagined episodes start where the simulator has no seed for, such as {unknown[0]}: "
            f"no outcome is given"
            if unknown
            else f"all {len(episodes)} imagined episodes start where the simulator can be reset to",
        )
    )
    if unknown or not episodes:
        return
    from vlaw_assets.reports import stage_pictures
    from vlaw_models.rollouts.privileged import true_outcomes

    true = true_outcomes(episodes, origins, robot=stage.robot, progress=stage.progress, spread=stage.spread(work))
    said = {row["episode_id"]: row["p_success"] > alpha for row in judged}
    tries = [
        Try(e.task, str(e.start_episode_id), bool(t), said.get(e.episode_id))
        for e, t in zip(episodes, true, strict=True)
    ]
    failed = [
        (e.task, e.episode_id)
        for e in work.read("starts").episodes(frames=False, success=False, tasks=stage.recipe.tasks)
    ]
    rows = [{**row, **_models(work, judged)} for row in label_rows(tries, failed, alpha)]
    outcomes = [
        {"episode_id": e.episode_id, "owner": owner, "task": e.task, "judge": JUDGE, "p_success": float(t)}
        for e, t in zip(episodes, true, strict=True)
    ]
    work.check(checks.rows_fit_schema("reward_scores", outcomes), checks.rows_fit_schema("evaluations", rows))
    work.draft.write_scores(outcomes)
    work.draft.write_evaluations(rows)
    work.metrics |= {
        "known": len(outcomes),
        "privileged": True,
        "figures": {row["metric"]: row["value"] for row in rows if row["task"] == ALL},
    }
    scores = {row["episode_id"]: row["p_success"] for row in judged}
    scored = [
        stage_pictures.Scored(e.episode_id, e.task, scores[e.episode_id], bool(t))
        for e, t in zip(episodes, true, strict=True)
        if e.episode_id in scores
    ]
    work.draw(
        "imagined episodes by P(yes), and what is true",
        lambda: stage_pictures.scored(
            scored, alpha, lambda ids: work.read("imagined_rollouts").source(episode_ids=ids)
        ),
    )


def label_rows(tries: Sequence[Try], failed: Collection[tuple[str, str]], alpha: float) -> list[dict[str, Any]]:
    """Rows of `evaluations`, per task and for "all"; a rate whose denominator is zero is left out.

    imagined_success         true successes among the imagined episodes
    label_precision, _recall  of what the judge accepts at alpha, against the truth
    failed_starts_covered    of the failed real rollouts (task, id) `failed`, those from which an imagined one truly
    succeeds
    """
    covered = {(one.task, one.start) for one in tries if one.true} & set(failed)
    rows = []
    for task in [*dict.fromkeys(one.task for one in tries), ALL]:
        here = [one for one in tries if task in (one.task, ALL)]
        judged = [(one.true, one.accepted) for one in here if one.accepted is not None]
        table = {
            name: judged.count(pair)
            for name, pair in (
                ("tp", (True, True)),
                ("fp", (False, True)),
                ("fn", (True, False)),
                ("tn", (False, False)),
            )
        }
        missed = [start for start in failed if task in (start[0], ALL)]
        detail = {"alpha": alpha, "privileged": True}
        for metric, successes, trials, more in (
            ("imagined_success", sum(one.true for one in here), len(here), {}),
            ("label_precision", table["tp"], table["tp"] + table["fp"], table),
            ("label_recall", table["tp"], table["tp"] + table["fn"], table),
            ("failed_starts_covered", len(covered & set(missed)), len(missed), {}),
        ):
            if trials:
                found = rate(successes, trials)
                rows.append(
                    {
                        "task": task,
                        "metric": metric,
                        "trials": trials,
                        "successes": successes,
                        "value": found.value,
                        "low": found.low,
                        "high": found.high,
                        "detail": {**detail, **more},
                    }
                )
    return rows


def _models(work: Work, judged: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Digests of what imagined and what judged, as the rows of the inputs name them."""
    rows = work.read("imagined_rollouts").table("episodes").slice(0, 1).to_pylist()
    return {
        "policy": rows[0]["policy"] or "",
        "world_model": rows[0]["world_model"] or "",
        "reward_model": judged[0]["judge"] if judged else "",
    }


imagined_outcomes = stage_asset(
    "imagined_outcomes",
    "Privileged: what imagined actions do on the true robot; precision and recall of the labels, failed starts "
    "covered.",
    plan=plan,
    make=make,
    check=check,
    group="iteration",
    deps=("imagined_rollouts", "reward_scores", "real_rollouts", "expert_demonstrations", "co_training_data"),
    pool=POOL,
    kinds=("deltalake",),
    checks=(checks.SCHEMA, checks.KNOWABLE),
)
