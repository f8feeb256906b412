"""Which data produced this artifact: the closure of what was really read, as plain values.

Here: the ledger asked, and nothing else (no data file is opened: counts were made at each commit), so the answer takes
the same time for a thousand episodes and for a million. Not here: how it is shown (cli/audit.py, page.py), hashing
files again (lake/verify.py), doing it again (replay.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.recipes import find_recipe
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

SHORT = 12
"""Characters of a digest that a person is shown."""
SOURCES = {"demonstration": "expert", "co_training": "expert", "pretraining": "expert", "rollout": "real",
           "validation": "real", "evaluation": "real", "imagined": "imagined", "replay": "imagined"}
"""Purpose of an episode -> where it comes from."""
TRUTH = "simulator (privileged)"
"""Judge of a training set whose imagined episodes were kept by their true outcome."""
LEARNERS = ("world_model", "reward_model", "policy")
"""Kinds of artifacts that learn from episodes."""
METRICS = ("world_model_metrics", "start_world_model_metrics", "reward_model_metrics", "start_evaluation", "policy_evaluation",
           "start_evaluation_low_noise", "policy_evaluation_low_noise")
"""Assets that measure models. No model is made from them; the promotion gate of loop_state reads some."""
LOOP_ORDER = (
    "autoencoder", "base_policy", "pretrained_world_model", "pretrained_reward_model", "expert_demonstrations",
    "co_training_data", "recorded_episodes", "quarantine", "loop_state", "real_rollouts", "reward_model", "world_model",
    "imagined_rollouts", "reward_scores", "imagined_outcomes", "training_set", "policy", "start_evaluation", "policy_evaluation",
    "start_evaluation_low_noise", "policy_evaluation_low_noise",
    "validation_rollouts", "start_world_model_metrics", "world_model_metrics", "reward_model_metrics", "episode_embeddings",
    "iteration_report",
)
"""In which order people read assets; others come last, by name."""


def subject(lake: Lake, asset: str, experiment: str | None, iteration: int | None) -> ArtifactRef:
    """The current artifact of an asset: of the foundation without experiment and iteration, else of that partition.

    Raises VlawError for half a partition, an unknown experiment or iteration, and where there is no such artifact.
    """
    if (experiment is None) != (iteration is None):
        raise VlawError("an iteration of an experiment needs both names", where=f"{asset} {experiment or ''}".strip(),
                        remedy=f"Give both, as in: {asset} vlaw 2; or neither, for an asset of the foundation.")
    partition = "" if experiment is None else f"{experiment}|{iteration:02d}"
    found = lake.ledger.current(asset, partition)
    if found is None:
        _explain_missing(lake, asset, experiment, iteration)
    return found or lake.ledger.require(asset, partition)


def audit_of(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """The closure of an artifact. Parents come first; every list is empty rather than missing.

    Returns: about the artifact itself (artifact, asset, partition, the four digests, reused_from, owner), and

        artifacts   one per artifact of the closure, with `parents` as edges, `versions`, `recipe`, `contents`
        episodes    {dataset, artifact, purpose, source, task, outcome, count, steps}
        members     {training_set, artifact, source, task, outcome, weight, count}
        learned     {learner, dataset, source, task, outcome, weight, count}: what each model learned from
        judges      {training_set, judge, judge_sha256, judge_artifact, alpha, scored, mean}
        metrics     {asset, partition, artifact, measures, figures, created_at}: known at the time, not ancestors
        quarantine  {episode_id, why, by, at, in_closure}: in force at the time of the lake
    """
    closure = lake.ledger.closure(ref)
    items = [_artifact(lake, item) for item in closure]
    ordered = [item for _, level in levels(items) for item in level]
    return {
        "artifact": ref.artifact_id, "asset": ref.asset, "partition": ref.partition, "content_sha256": ref.content_digest,
        "code_sha256": ref.code_digest, "recipe_sha256": ref.recipe_digest, "parents_sha256": ref.parents_digest,
        "reused_from": ref.source_artifact_id, "owner": ref.owner, "run_id": ref.run_id,
        "created_at": ref.created_at.isoformat(), "code_revision": ref.code_revision,
        "artifacts": items,
        "episodes": [{"dataset": name_of(item), "artifact": item["artifact"],
                      "source": SOURCES.get(row["purpose"], "real"), **row}
                     for item in ordered for row in item["contents"].get("episodes", ())],
        "members": [{"training_set": name_of(item), "artifact": item["artifact"], **row}
                    for item in ordered for row in item["contents"].get("members", ())],
        "learned": _learned(ordered),
        "judges": _judges(ordered),
        "metrics": _metrics(lake, ref, closure),
        "quarantine": _quarantine(lake, closure),
    }


def short(found: dict[str, Any]) -> str:
    """The audit in one line."""
    by_purpose, by_source = _totals(found["episodes"], "purpose"), _totals(found["members"], "source")
    episodes = ", ".join(f"{count} {purpose}" for purpose, count in sorted(by_purpose.items())) or "none"
    learned = ", ".join(f"{count} {source}" for source, count in sorted(by_source.items())) or "none"
    return (f"{name_of(found)} {found['content_sha256'][:SHORT]} stands on {len(found['artifacts']) - 1} artifacts; "
            f"episodes read: {episodes}; learned from: {learned}")


def name_of(item: dict[str, Any]) -> str:
    """'policy[vlaw|01]' or 'base_policy'."""
    return f"{item['asset']}[{item['partition']}]" if item["partition"] else item["asset"]


def rank(asset: str) -> tuple[int, str]:
    """Sorts assets as the loop makes them."""
    return (LOOP_ORDER.index(asset) if asset in LOOP_ORDER else len(LOOP_ORDER)), asset


def levels(items: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Artifacts by partition: the foundation ('') first, then iterations in order; each level in loop order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        grouped.setdefault(item["partition"], []).append(item)
    order = sorted(grouped, key=lambda key: (int(key.partition("|")[2] or -1), key))
    return [(key, sorted(grouped[key], key=lambda item: rank(item["asset"]))) for key in order]


def pivot(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """A table, header first: one line per combination of `names`, one column per task, "successes/episodes" in a cell.

    Where nothing is judged (imagined episodes) a cell is the count alone.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    lines: dict[tuple[Any, ...], dict[str, Counter[str]]] = {}
    for row in rows:
        line = lines.setdefault(tuple(row[name] for name in names), {task: Counter() for task in [*tasks, "all"]})
        for task in (row["task"], "all"):
            line[task][row["outcome"]] += row["count"]
    return [[*names, *tasks, "all"], *([*(_text(value) for value in key), *(_cell(cell) for cell in line.values())]
                                       for key, line in lines.items())]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(outcomes: Counter[str]) -> str:
    from vlaw_assets.lake.contents import FAILURE, SUCCESS

    count = outcomes.total()
    return f"{outcomes[SUCCESS]}/{count}" if outcomes[SUCCESS] + outcomes[FAILURE] else str(count or "")


def _explain_missing(lake: Lake, asset: str, experiment: str | None, iteration: int | None) -> None:
    """Raises VlawError with the best that can be said: a name that nobody knows, or what there is instead."""
    others = list(dict.fromkeys(ref.name for ref in lake.ledger.artifacts() if ref.asset == asset))
    if experiment is not None and iteration is not None:
        from vlaw_assets.environment import default_recipes
        from vlaw_assets.partitions import partition_key

        folder = default_recipes()
        find_recipe(experiment, Path(folder) if folder else None)
        partition_key(experiment, iteration)
    if others:
        name = f"{asset}[{experiment}|{iteration:02d}]" if experiment is not None else f"{asset} of the foundation"
        raise VlawError(f"{name} is not in the ledger", where=str(lake.paths.root),
                        remedy=f"Materialize it first, or use one of: {', '.join(others[-8:])}.")


def _artifact(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    from vlaw_assets.lake.contents import contents_of

    return {
        "artifact": ref.artifact_id, "asset": ref.asset, "partition": ref.partition, "kind": ref.kind,
        "content_sha256": ref.content_digest, "code_sha256": ref.code_digest, "recipe_sha256": ref.recipe_digest,
        "parents_sha256": ref.parents_digest, "code_revision": ref.code_revision,
        "recipe": json.loads(ref.recipe_json or "{}"), "rows": ref.num_rows, "location": ref.location,
        "versions": {name: {"version": entry["version"], "rows": entry["rows"], "files": len(entry["files"]),
                            "bytes": sum(file["size"] for file in entry["files"])} for name, entry in ref.versions.items()},
        "run_id": ref.run_id, "created_at": ref.created_at.isoformat(), "contents": contents_of(lake, ref),
        "seconds": ref.metrics.get("seconds"), "made_with": ref.metrics.get("made_with", {}),
        "parents": [{"role": role, "artifact": parent.artifact_id} for role, parent in lake.ledger.edges(ref.artifact_id)],
    }


def _learned(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each learner of the closure learned from: members of its training set, else the episodes it read."""
    by_id = {item["artifact"]: item for item in items}
    found = []
    for item in items:
        if item["kind"] not in LEARNERS:
            continue
        parents = [(edge["role"], by_id[edge["artifact"]]) for edge in item["parents"]]
        datasets = [parent for _, parent in parents if parent["contents"].get("members")]
        for parent in datasets:
            found += [{"learner": name_of(item), "dataset": name_of(parent), **row} for row in parent["contents"]["members"]]
        for role, parent in parents if not datasets else ():
            found += [{"learner": name_of(item), "dataset": name_of(parent), "source": SOURCES.get(row["purpose"], "real"),
                       "task": row["task"], "outcome": row["outcome"], "weight": _weight(item, role), "count": row["count"]}
                      for row in parent["contents"].get("episodes", ())]
    return found


def _weight(item: dict[str, Any], role: str) -> float:
    """Weight of a parent's episodes in the learner's loss: lambda for the co-training corpus, else 1."""
    table = item["recipe"].get(item["kind"])
    return float(table.get("co_training_weight", 1.0)) if role == "co_training" and isinstance(table, dict) else 1.0


def _judges(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge and threshold of every training set: the reward model its scores came from, and its recipe's alpha."""
    by_id = {item["artifact"]: item for item in items}
    found = []
    for item in (item for item in items if item["kind"] == "training_set"):
        alpha = item["recipe"].get("score", {}).get("alpha")
        for scores in (by_id[edge["artifact"]] for edge in item["parents"] if edge["role"] == "reward_scores"):
            judge = next((by_id[edge["artifact"]] for edge in scores["parents"] if edge["role"] == "reward_model"), None)
            counted = scores["contents"].get("scores", [])
            found.append({
                "training_set": name_of(item), "judge": name_of(judge) if judge else TRUTH if scores["asset"] == "imagined_outcomes" else "",
                "judge_artifact": judge["artifact"] if judge else "", "judge_sha256": judge["content_sha256"] if judge else "",
                "alpha": alpha, "scored": sum(row["count"] for row in counted),
                "mean": sum(row["count"] * row["mean"] for row in counted) / (sum(row["count"] for row in counted) or 1),
                "accepted": sum(row["count"] for row in item["contents"].get("members", ()) if row["source"] == "imagined"),
            })
    return found


def _metrics(lake: Lake, ref: ArtifactRef, closure: list[ArtifactRef]) -> list[dict[str, Any]]:
    """What was known about the models of the closure: measured before `ref` was committed, or in its own partition."""
    partitions = {item.partition for item in closure if item.partition} | {ref.partition}
    models = {item.content_digest: item.name for item in closure if item.kind in LEARNERS}
    newest: dict[tuple[str, str], ArtifactRef] = {}
    before = True
    for item in lake.ledger.artifacts():
        if item.asset in METRICS and item.partition in partitions and (before or item.partition == ref.partition):
            newest[item.asset, item.partition] = item
        before = before and item.artifact_id != ref.artifact_id
    found = []
    for item in sorted(newest.values(), key=lambda item: (item.partition, rank(item.asset))):
        measured = sorted({models[parent.content_digest] for _, parent in lake.ledger.edges(item.owner)
                           if parent.content_digest in models})
        success = item.metrics.get("success", {})
        figures = item.metrics.get("figures") or {f"success {task}": value for task, value in success.items()}
        if measured and figures:
            found.append({"asset": item.asset, "partition": item.partition, "artifact": item.artifact_id, "measures": measured,
                          "figures": figures, "trials": item.metrics.get("trials"), "created_at": item.created_at.isoformat()})
    return found


def _quarantine(lake: Lake, closure: list[ArtifactRef]) -> list[dict[str, Any]]:
    """Episodes in quarantine, and whether an artifact of the closure holds them (an id begins with its owner's identity)."""
    from vlaw_assets.lake.quarantine import quarantined

    identities = {item.identity_digest[:12] for item in closure}
    return [{"episode_id": episode_id, **{key: str(row[key]) for key in ("why", "by", "at")},
             "in_closure": episode_id.rsplit("-", 2)[-2] in identities if episode_id.count("-") >= 2 else False}
            for episode_id, row in sorted(quarantined(lake).items())]


def _totals(rows: Iterable[dict[str, Any]], key: str) -> Counter[str]:
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row[key]] += row["count"]
    return totals
