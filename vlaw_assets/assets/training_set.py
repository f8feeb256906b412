"""What the policy learns from: real and imagined episodes, as weights on episodes.

The policy's learner (vlaw_models/learners) says which episodes are members, and the weight w of Eq. 4 and the sign of
the advantage of each. Nothing is copied: a member names an episode and the artifact that owns it. Where its advantage
is not positive its source is "real_negative" or "imagined_negative". What is rehearsed (policy.rehearsal) is no choice
of the learner's: the demonstrations and the imagined successes of the iterations before are members of weight 1.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import stage_asset
from vlaw_assets.assets.state import read_state, real_so_far, rehearsed
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.loop_roles import REAL, REHEARSED
from vlaw_assets.pipeline import checks
from vlaw_models.learners.base import KINDS, Candidate, Member


def plan(stage: Stage) -> Plan:
    recipe, state = stage.recipe, read_state(stage)
    learner = recipe.learner
    again = rehearsed(stage, state)
    parents = real_so_far(stage, state) | again
    tables = {"learner": recipe.policy.learner, **learner.member_table()}
    tables |= {"rehearsed_tasks": list(recipe.tasks)} if again else {}
    score: dict[str, Any] = {}
    if learner.imagined:
        # Labels "simulator" are privileged: true outcomes of imagined actions, written as scores of 1 and 0.
        scored = "imagined_outcomes" if recipe.score.labels == "simulator" else "reward_scores"
        parents |= {"imagined_rollouts": stage.require("imagined_rollouts"), "reward_scores": stage.require(scored)}
        score = {"labels": recipe.score.labels}
        score |= {"alpha": recipe.score.alpha} if learner.reads_alpha or again else {}
    return Plan(kind="training_set", recipe={"members": tables, "score": score}, parents=parents)


def make(stage: Stage, _plan: Plan, work: Work) -> None:
    from vlaw_assets.reports import stage_pictures

    candidates = _candidates(stage, work)
    members, notes = stage.recipe.learner.members(candidates, alpha=stage.recipe.score.alpha)
    again = _rehearsed(stage, work)
    rows = [member.row() for member in [*members, *(member for member, _ in again)]]
    work.check(checks.rows_fit_schema("members", rows))
    work.draft.write_members(rows)
    work.metrics |= notes
    work.metrics |= {kind: sum(row["source"].startswith(kind) for row in rows) for kind in KINDS}
    tasks = {one.episode_id: one.task for one in candidates} | {one.episode_id: task for one, task in again}
    counted = Counter((tasks[row["episode_id"]], row["source"]) for row in rows if row["weight"] > 0)
    work.draw("what the policy learns from", lambda: stage_pictures.members(stage.recipe.tasks, counted))


def _candidates(stage: Stage, work: Work) -> list[Candidate]:
    """The real rollouts so far, by iteration, and the imagined episodes with their scores."""
    learner = stage.recipe.learner
    # Where a weight stands on the outcomes of all the others there is no edge of scope 'rows'.
    by_row = None if learner.one_by_one else False
    found = [
        Candidate(
            episode.episode_id,
            work.parents[role].owner,
            episode.task,
            "real",
            float(bool(episode.success)),
            newest=role == f"{REAL}_{stage.iteration:02d}",
        )
        for role in work.parents
        if role.startswith(REAL)
        for episode in work.read(role, by_row=by_row).episodes(
            frames=False, success=True if learner.real == "successes" else None, judged=True
        )
    ]
    if learner.imagined:
        said = work.read("imagined_rollouts", by_row=by_row).labels  # its episodes become members: a dependency
        scores = work.read("reward_scores", by_row=by_row).table("reward_scores").to_pylist()
        owner = work.parents["imagined_rollouts"].owner
        found += [
            # What a person says of an imagined episode outweighs its judge.
            Candidate(s["episode_id"], owner, s["task"], "imagined", float(score))
            for s in scores
            if (score := said.get(s["episode_id"], s["p_success"])) is not None
        ]
        work.metrics["judged"] = len(scores)
    return found


def _rehearsed(stage: Stage, work: Work) -> list[tuple[Member, str]]:
    """What is rehearsed, each with its task: demonstrations that are successes, and the imagined episodes of the
    iterations before that succeeded by their scores, or by what a person says of them."""
    tasks, alpha, found = stage.recipe.tasks or None, stage.recipe.score.alpha, []
    for role, ref in work.parents.items():
        if not role.startswith(REHEARSED) or "reward_scores" in role:
            continue
        handle = work.read(role)
        if "imagined_rollouts" in role:
            scores = work.read(role.replace("imagined_rollouts", "reward_scores")).table("reward_scores").to_pylist()
            won = {row["episode_id"]: row["p_success"] > alpha for row in scores} | dict(handle.labels)
            held = [e for e in handle.episodes(frames=False, tasks=tasks) if won.get(e.episode_id)]
        else:
            held = handle.episodes(frames=False, tasks=tasks, success=True)
        found += [(Member(episode.episode_id, ref.owner, "rehearsed"), episode.task) for episode in held]
    return found


training_set = stage_asset(
    "training_set",
    "D_real and D_syn as the policy update takes them; in VLAW real successes, and imagined ones with P(yes) > alpha.",
    plan=plan,
    make=make,
    group="iteration",
    deps=(
        "loop_state",
        "real_rollouts",
        "imagined_rollouts",
        "reward_scores",
        "imagined_outcomes",
        "expert_demonstrations",
    ),
    kinds=("deltalake",),
    checks=(checks.SCHEMA,),
)
