"""Real rollouts that come back from a lab: what was taken from the inbox for an iteration, and the plan to use it.

`[rollouts] source = "inbox"`. Which iteration a recording is of is in its ledger row: the inbox has put it there after
it checked the session that served the policy (vlaw_assets/inbox). An iteration is complete when it has
`episodes_per_task` recorded episodes of every task; it is made of the recordings that are there then, and stands on
those from then on. What comes later is in the lake all the same, and is used when a larger `episodes_per_task` asks for
it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.recordings import ASSET, ROLE
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.state import read_state
from vlaw_assets.assets.work import Plan
from vlaw_assets.partitions import split_partition
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake, Ledger

INBOX = "inbox"
SESSION = "session"
"""Key of a recording's settings: {"id", "experiment", "iteration", "policy"} of what came by the inbox."""


def sessions(ledger: Ledger) -> dict[str, tuple[ArtifactRef, Mapping[str, Any]]]:
    """Name -> (recording, what `SESSION` says of it), of everything that came by the inbox; in order of names."""
    newest = {ref.partition: ref for ref in ledger.artifacts() if ref.asset == ASSET}
    found = {
        split_partition(partition)[0]: (ref, said)
        for partition, ref in newest.items()
        if (said := json.loads(ref.recipe_json).get(SESSION))
    }
    return dict(sorted(found.items()))


def recorded_for(ledger: Ledger, experiment: str, iteration: int, policy: str) -> dict[str, ArtifactRef]:
    """Name -> recording of an iteration, made with the policy of that content digest."""
    wanted = experiment, iteration, policy
    return {
        name: ref
        for name, (ref, said) in sessions(ledger).items()
        if (said["experiment"], said["iteration"], said["policy"]) == wanted
    }


def counted(lake: Lake, refs: Iterable[ArtifactRef]) -> Counter[str]:
    """Task -> episodes, as they were recorded: quarantine and labels change nothing."""
    from vlaw_assets.lake.contents import contents_of

    found = Counter[str]()
    for ref in refs:
        for row in contents_of(lake, ref).get("episodes", ()):
            found[row["task"]] += row["count"]
    return found


def wanted(tasks: Sequence[str], per_task: int, have: Mapping[str, int]) -> dict[str, int]:
    """Task -> episodes that make an iteration complete. No tasks: those that were recorded, at least one."""
    return dict.fromkeys(tasks or have or ("any",), per_task)


def plan_of_inbox(stage: Stage) -> Plan:
    """A plan to take `episodes_per_task` of each task from the recordings of this iteration.

    Raises VlawError where that many have not been recorded yet with the policy that the iteration starts from.
    """
    state, tasks, per_task = read_state(stage), list(stage.recipe.tasks), stage.recipe.rollouts.episodes_per_task
    policy = state.policy.content_digest
    settings = {"tasks": tasks, "per_task": per_task, "share": [1, 1], "policy": policy, "world_model": True}
    parents = _as_made(stage, settings)
    if not parents:
        found = recorded_for(stage.ledger, stage.experiment, stage.iteration, policy)
        _complete(stage, state.policy, counted(stage.lake, found.values()))
        parents = {f"{ROLE}_{name}": ref for name, ref in found.items()}
    stage.required += parents.values()
    return Plan(kind="real_rollouts", recipe={"recorded": settings, "purpose": "rollout"}, parents=parents)


def _as_made(stage: Stage, settings: Mapping[str, Any]) -> dict[str, ArtifactRef]:
    """The recordings that the iteration's real rollouts were made of, if they are what these settings ask for."""
    current = stage.ledger.current(stage.asset, stage.partition)
    if current is None:
        return {}
    before = json.loads(current.recipe_json).get("recorded", {})
    enough = before.get("per_task", -1) >= settings["per_task"] and {*settings["tasks"]} <= {*before["tasks"]}
    if before.get("policy") != settings["policy"] or not enough:
        return {}
    return {role: ref for role, ref in stage.ledger.edges(current.owner) if role.startswith(ROLE)}


def _complete(stage: Stage, policy: ArtifactRef, have: Mapping[str, int]) -> None:
    asked = wanted(stage.recipe.tasks, stage.recipe.rollouts.episodes_per_task, have)
    if all(have.get(task, 0) >= count for task, count in asked.items()):
        return
    served = split_partition(policy.partition)[1]
    raise VlawError(
        f"iteration {stage.iteration:02d} waits for recordings: "
        + ", ".join(f"{task} {have.get(task, 0)} of {count}" for task, count in asked.items()),
        where=f"{stage.asset} [{stage.partition}], source = {INBOX!r}",
        remedy=f"Serve the policy that it starts from ({policy.name}: vlaw serve-policy {stage.experiment} "
        f"{served:02d}), record episodes, drop them into the inbox (vlaw inbox takes them in), and run it again.",
    )
