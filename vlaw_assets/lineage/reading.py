"""What the artifacts of a closure read, what its models learned from, and what chose these models.

The counts that were made at each commit by the one rule of lake/reads.py are put together over a closure. Rows are
looked up only where several artifacts read different parts of one dataset, so that their union is in no ledger row.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

SOURCES = {
    "demonstration": "expert",
    "co_training": "expert",
    "near_success": "expert",
    "pretraining": "expert",
    "rollout": "real",
    "validation": "real",
    "evaluation": "real",
    "imagined": "imagined",
    "replay": "imagined",
}
"""Purpose of an episode -> where it comes from."""
LEARNERS = ("world_model", "reward_model", "policy")
"""Kinds of artifacts that learn from episodes."""
UNION = """
SELECT parent_id, purpose, task,
  CASE WHEN recorded THEN 'success' WHEN recorded IS NULL THEN 'not judged' ELSE 'failure' END AS outcome,
  count(*) AS count, sum(num_steps)::BIGINT AS steps
FROM (SELECT DISTINCT parent_id, episode_id, purpose, task, recorded, num_steps FROM found) GROUP BY ALL ORDER BY ALL
"""
_GROUP = ("purpose", "task", "outcome")


def name_of(item: dict[str, Any]) -> str:
    """'policy[vlaw|01]' or 'base_policy'."""
    return f"{item['asset']}[{item['partition']}]" if item["partition"] else item["asset"]


def episodes_read(lake: Lake, subject: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per dataset of a closure its episodes that something in the closure read, each once, however often.

    Returns rows {dataset, artifact, purpose, source, task, outcome, count, steps, held}: the outcome as it was
    recorded, and `held` is how many such episodes the dataset has. What `subject` (an artifact id) itself holds counts
    as read.
    """
    readers: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        for row in item["contents"].get("reads", ()):
            readers[row["parent"]][item["owner"]].append(row)
    items = list({item["owner"]: item for item in reversed(items)}.values())[
        ::-1
    ]  # a pointer and its owner hold the same
    unions, found = _unions(lake, subject, items, readers), []
    for item in items:
        for held in item["contents"].get("episodes", ()):
            read = unions[item["owner"]].get(tuple(held[key] for key in _GROUP), {"count": 0, "steps": 0})
            found.append(
                {
                    "dataset": name_of(item),
                    "artifact": item["artifact"],
                    "source": SOURCES.get(held["purpose"], "real"),
                    **{key: held[key] for key in _GROUP},
                    "count": read["count"],
                    "steps": read["steps"],
                    "held": held["count"],
                }
            )
    return found


def learned(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each model of a closure learned from: {learner, artifact, dataset, through, source, task, outcome, weight,
    count}.

    `dataset` holds the episodes, `through` is the training set that weighs them ('' without one). An episode of weight
    0 was not learned from. Weights are those of an episode in the loss: lambda for the co-training corpus.
    """
    by_owner = {item["owner"]: item for item in items}
    return [row for item in items if item["kind"] in LEARNERS for row in _of_learner(item, by_owner)]


def decision_lines(found: dict[str, Any]) -> list[str]:
    """The decisions of an audit as sentences; of the first iteration, where there is no gate, in short."""
    return [
        f"{row['state']}: {row['model']} is {row['chosen']}"
        + (
            f"; {row['candidate'] or 'the new one'} was {'promoted' if row['promoted'] else 'refused'}: {row['reason']}"
            if row["promoted"] is not None
            else ""
        )
        for row in found["decisions"]
    ]


def decisions(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What chose the models of a closure: {state, model, chosen, judged, promoted, measured, reason}, iterations in
    order.

    `chosen` is what went on, `candidate` the new model that the promotion gate looked at ('' where there was nothing to
    decide).
    """
    from vlaw_assets.loop_roles import CANDIDATE, MODELS

    by_id = {item["artifact"]: item for item in items}
    found = []
    for item in sorted((item for item in items if item["asset"] == "loop_state"), key=lambda item: item["partition"]):
        roles = {edge["role"]: name_of(by_id[edge["artifact"]]) for edge in item["parents"]}
        for model in MODELS:
            verdict = item["promotion"].get(model, {})
            if model in roles:
                found.append(
                    {
                        "state": name_of(item),
                        "model": model,
                        "chosen": roles[model],
                        "candidate": roles.get(CANDIDATE + model, ""),
                        "promoted": verdict.get("promoted"),
                        "measured": verdict.get("measured"),
                        "reason": verdict.get(
                            "reason", "no gate: it is what the iteration before left, or the foundation"
                        ),
                    }
                )
    return found


def _of_learner(item: dict[str, Any], by_owner: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    weighed = [edge["artifact"] for edge in item["parents"] if edge["role"] == "training_set"]
    through = next((name_of(other) for other in by_owner.values() if other["artifact"] in weighed), "")
    return [
        {
            "learner": name_of(item),
            "artifact": item["artifact"],
            "dataset": name_of(by_owner[row["parent"]]),
            "through": through if row["source"] else "",
            "source": row["source"] or SOURCES.get(row["purpose"], "real"),
            "task": row["task"],
            "outcome": row["outcome"],
            "weight": row["weight"] * _in_the_loss(item, row["role"]),
            "count": row["count"],
        }
        for row in item["contents"].get("reads", ())
        if row["weight"] > 0
    ]


def _unions(
    lake: Lake, subject: str, items: list[dict[str, Any]], readers: Any
) -> dict[str, dict[tuple[Any, ...], dict[str, int]]]:
    """Owner of a dataset -> {(purpose, task, outcome): count and steps} of what was read of it."""
    found: dict[str, dict[tuple[Any, ...], dict[str, int]]] = {}
    asked: dict[str, set[str]] = {}
    for item in items:
        held = item["contents"].get("episodes", ())
        if not held:
            continue
        # One artifact may read a parent in several roles: their union is not their sum.
        ways = [rows for by_role in readers[item["owner"]].values() for rows in _by_role(by_role)]
        ways = [rows for rows in ways if rows]
        total = sum(row["count"] for row in held)
        whole = item["artifact"] == subject or any(sum(row["count"] for row in rows) == total for rows in ways)
        if whole or len(ways) <= 1:
            found[item["owner"]] = _summed(held if whole else (row for rows in ways for row in rows))
        else:
            asked[item["owner"]] = set(readers[item["owner"]])
    if asked:
        from vlaw_assets.lake.reads import rows_read

        rows = rows_read(lake, [lake.ledger.get(name) for name in set().union(*asked.values())], UNION)
        found |= {owner: _summed(row for row in rows if row["parent_id"] == owner) for owner in asked}
    return found


def _by_role(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    roles: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        roles[row["role"]].append(row)
    return list(roles.values())


def _summed(rows: Any) -> dict[tuple[Any, ...], dict[str, int]]:
    found: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: {"count": 0, "steps": 0})
    for row in rows:
        for key in ("count", "steps"):
            found[row["purpose"], row["task"], row.get("recorded", row["outcome"])][key] += row[key]
    return found


def _in_the_loss(item: dict[str, Any], role: str) -> float:
    """Weight of a parent's episodes in the learner's loss: lambda for the co-training half, else 1."""
    table, half = item["recipe"].get(item["kind"]), role in ("co_training", "near_success")
    return float(table.get("co_training_weight", 1.0)) if half and isinstance(table, dict) else 1.0
