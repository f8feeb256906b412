"""Which data produced this artifact: the closure of what was really read, as plain values.

Counts were made at each commit, so that the answer takes the same time for a thousand episodes and for a million
(reading.py says where rows are looked up all the same).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vlaw_assets.lineage.layout import SHORT, levels, rank
from vlaw_assets.lineage.reading import LEARNERS, decisions, episodes_read, learned, name_of
from vlaw_assets.partitions import join_partition, partition_of
from vlaw_assets.recipes import find_recipe
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

TRUTH = "simulator (privileged)"
"""Reward model of a training set whose imagined episodes were kept by their true outcome."""
AS_RECORDED = "as recorded"
"""Label of an episode that nobody had labelled."""
METRICS = (
    "world_model_metrics",
    "start_world_model_metrics",
    "reward_model_metrics",
    "start_evaluation",
    "policy_evaluation",
    "start_evaluation_low_noise",
    "policy_evaluation_low_noise",
)
"""Assets that measure models. No model is made from them; the promotion gate of loop_state reads some."""


def subject(lake: Lake, asset: str, experiment: str | None, iteration: int | None) -> ArtifactRef:
    """The current artifact of an asset: of the foundation without experiment and iteration, else of that partition.

    Raises VlawError for half a partition, an unknown experiment or iteration, and where there is no such artifact.
    """
    if (experiment is None) != (iteration is None):
        raise VlawError(
            "an iteration of an experiment needs both names",
            where=f"{asset} {experiment or ''}".strip(),
            remedy=f"Give both, as in: {asset} vlaw 2; or neither, for an asset of the foundation.",
        )
    partition = "" if experiment is None or iteration is None else join_partition(experiment, iteration)
    found = lake.ledger.current(asset, partition)
    if found is None:
        _explain_missing(lake, asset, experiment, iteration)
    return found or lake.ledger.require(asset, partition)


def audit_of(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """The closure of an artifact. Parents come first; every list is empty rather than missing.

    Returns: about the artifact itself (artifact, asset, partition, the four digests, reused_from, owner), and

        artifacts   one per artifact of the closure, with `parents` as edges ({role, artifact, scope, selection, read}:
        how
                    many episodes were read over it), `versions`, `recipe`, `contents`
        episodes    {dataset, artifact, purpose, source, task, outcome, count, steps, held}: read by anything in the
        closure members     {training_set, artifact, source, task, outcome, weight, count}: what is in each training set
        learned     {learner, artifact, dataset, through, source, task, outcome, weight, count}: what each model learned
        from decisions   {state, model, chosen, judged, promoted, measured, reason}: what chose the models
        judges      {training_set, judge, judge_sha256, judge_artifact, alpha, scored, mean}
        metrics     {asset, partition, artifact, measures, figures, trials, left_out, created_at}: known at the time;
                    success by the labels in force, without the `left_out` trials that are in quarantine
        labels      {episode_id, label, who, why, at, made_with, read_by}: in force at the time of the lake, and by
                    which label the artifacts `read_by` were made that look at success and have a parent that holds it
        quarantine  {episode_id, why, by, at, in_closure}: in force at the time of the lake, and whether they reached it
    """
    closure = lake.ledger.closure(ref)
    items = [_artifact(lake, item) for item in closure]
    ordered = [item for _, level in levels(items) for item in level]
    return {
        "artifact": ref.artifact_id,
        "asset": ref.asset,
        "partition": ref.partition,
        "content_sha256": ref.content_digest,
        "code_sha256": ref.code_digest,
        "recipe_sha256": ref.recipe_digest,
        "parents_sha256": ref.parents_digest,
        "reused_from": ref.source_artifact_id,
        "owner": ref.owner,
        "run_id": ref.run_id,
        "created_at": ref.created_at.isoformat(),
        "code_revision": ref.code_revision,
        "artifacts": items,
        "episodes": episodes_read(lake, closure[-1].artifact_id, ordered),
        "members": [
            {"training_set": name_of(item), "artifact": item["artifact"], **row}
            for item in {item["owner"]: item for item in ordered}.values()
            for row in item["contents"].get("members", ())
        ],
        "learned": learned(ordered),
        "decisions": decisions(ordered),
        "judges": _judges(ordered),
        "metrics": _metrics(lake, ref, closure),
        "labels": _labels(lake, closure),
        "quarantine": _quarantine(lake, ref),
    }


def short(found: dict[str, Any]) -> str:
    """The audit in one line; of a model with what its own update learned from, and not the ones before it."""
    last = found["artifacts"][-1]
    text = (
        f"{name_of(found)} {found['content_sha256'][:SHORT]} stands on {len(found['artifacts']) - 1} artifacts; "
        f"episodes read: {_counted(found['episodes'], 'purpose')}"
    )
    if last["kind"] not in LEARNERS or not last["partition"]:
        return text
    own = [row for row in found["learned"] if row["artifact"] == last["artifact"]]
    return f"{text}; its own update learned from: {_counted(own, 'source')}"


def _explain_missing(lake: Lake, asset: str, experiment: str | None, iteration: int | None) -> None:
    """Raises VlawError with the best that can be said: a name that nobody knows, or what there is instead."""
    others = list(dict.fromkeys(ref.name for ref in lake.ledger.artifacts() if ref.asset == asset))
    if experiment is not None and iteration is not None:
        from vlaw_assets.environment import recipes_folder

        find_recipe(experiment, recipes_folder())
        partition_of(experiment, iteration)
    if others:
        name = f"{asset} of the foundation"
        if experiment is not None and iteration is not None:
            name = f"{asset}[{join_partition(experiment, iteration)}]"
        raise VlawError(
            f"{name} is not in the ledger",
            where=str(lake.paths.root),
            remedy=f"Materialize it first, or use one of: {', '.join(others[-8:])}.",
        )


def _artifact(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    from vlaw_assets.lake.contents import contents_of

    held = contents_of(lake, ref)
    return {
        "artifact": ref.artifact_id,
        "owner": ref.owner,
        "asset": ref.asset,
        "partition": ref.partition,
        "kind": ref.kind,
        "content_sha256": ref.content_digest,
        "code_sha256": ref.code_digest,
        "recipe_sha256": ref.recipe_digest,
        "parents_sha256": ref.parents_digest,
        "code_revision": ref.code_revision,
        "recipe": json.loads(ref.recipe_json or "{}"),
        "rows": ref.num_rows,
        "location": ref.location,
        "versions": {
            name: {
                "version": entry["version"],
                "rows": entry["rows"],
                "files": len(entry["files"]),
                "bytes": sum(file["size"] for file in entry["files"]),
            }
            for name, entry in ref.versions.items()
        },
        "run_id": ref.run_id,
        "created_at": ref.created_at.isoformat(),
        "contents": held,
        "seconds": ref.metrics.get("seconds"),
        "made_with": ref.metrics.get("made_with", {}),
        "parents": _parents(lake, ref, held),
        "promotion": ref.metrics.get("promotion", {}),
    }


def _parents(lake: Lake, ref: ArtifactRef, held: dict[str, Any]) -> list[dict[str, Any]]:
    """The edges of an artifact, each with how many episodes were read over it."""
    read: Counter[tuple[str, str]] = Counter()
    for row in held.get("reads", ()):
        read[row["parent"], row["role"]] += row["count"]
    return [
        {
            "role": edge.role,
            "artifact": lake.ledger.node(edge),
            "scope": edge.scope,
            "selection": edge.selection,
            "read": read[edge.parent, edge.role],
        }
        for edge in lake.ledger.edge_rows(ref.artifact_id)
    ]


def _judges(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every training set: the reward model that its scores came from, and its recipe's alpha."""
    by_id = {item["artifact"]: item for item in items}
    found = []
    for item in (item for item in items if item["kind"] == "training_set"):
        alpha = item["recipe"].get("score", {}).get("alpha")
        for scores in (by_id[edge["artifact"]] for edge in item["parents"] if edge["role"] == "reward_scores"):
            judge = next(
                (by_id[edge["artifact"]] for edge in scores["parents"] if edge["role"] == "reward_model"), None
            )
            counted = scores["contents"].get("scores", [])
            found.append(
                {
                    "training_set": name_of(item),
                    "judge": name_of(judge) if judge else TRUTH if scores["asset"] == "imagined_outcomes" else "",
                    "judge_artifact": judge["artifact"] if judge else "",
                    "judge_sha256": judge["content_sha256"] if judge else "",
                    "alpha": alpha,
                    "scored": sum(row["count"] for row in counted),
                    "mean": sum(row["count"] * row["mean"] for row in counted)
                    / (sum(row["count"] for row in counted) or 1),
                    "accepted": sum(
                        row["count"] for row in item["contents"].get("members", ()) if row["source"] == "imagined"
                    ),
                }
            )
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
        measured = sorted(
            {
                models[parent.content_digest]
                for _, parent in lake.ledger.edges(item.owner)
                if parent.content_digest in models
            }
        )
        counted = lake.counted(item)
        success, trials, left_out = item.metrics.get("success", {}), item.metrics.get("trials"), counted.left_out
        if left_out or counted.corrected:
            success, trials = _success(lake, item)
        figures = item.metrics.get("figures") or {f"success {task}": value for task, value in success.items()}
        if measured and figures:
            found.append(
                {
                    "asset": item.asset,
                    "partition": item.partition,
                    "artifact": item.artifact_id,
                    "measures": measured,
                    "figures": figures,
                    "trials": trials,
                    "left_out": left_out,
                    "created_at": item.created_at.isoformat(),
                }
            )
    return found


def _success(lake: Lake, ref: ArtifactRef) -> tuple[dict[str, float], int]:
    """Success per task and over all by the labels in force, and the trials it is of, without those in quarantine."""
    rows = [row for row in lake.counted(ref).table("episodes").to_pylist() if row["success"] is not None]
    tasks = {
        task: [row["success"] for row in rows if task in (row["task"], "all")]
        for task in [*{row["task"] for row in rows}, "all"]
    }
    return {task: sum(found) / len(found) for task, found in tasks.items() if found}, len(rows)


def _quarantine(lake: Lake, ref: ArtifactRef) -> list[dict[str, Any]]:
    """Episodes in quarantine, and whether they reached this artifact all the same (as impact.py follows rows)."""
    from vlaw_assets.lake.quarantine import quarantined
    from vlaw_assets.lineage.impact import that_reached

    rows = quarantined(lake)
    reached = that_reached(lake, ref, rows.keys())
    return [
        {"episode_id": name, **{key: str(row[key]) for key in ("why", "by", "at")}, "in_closure": name in reached}
        for name, row in sorted(rows.items())
    ]


def _labels(lake: Lake, closure: list[ArtifactRef]) -> list[dict[str, Any]]:
    """Labels in force of episodes that the parents of something in the closure hold whose stage looks at success."""
    from vlaw_assets.by_label import goes_by_label
    from vlaw_assets.lake import labels
    from vlaw_assets.lake.lookup import Lookup

    now = labels.words(lake)
    last = labels.in_force(lake) | labels.decisions(lake)
    if not now:
        return []
    owners = {ref.owner: lake.ledger.get(ref.owner) for ref in closure}.values()
    readers = [ref for ref in owners if goes_by_label(ref.asset, json.loads(ref.recipe_json or "{}"))]
    parents = {ref.artifact_id: {edge.parent for edge in lake.ledger.edge_rows(ref.artifact_id)} for ref in readers}
    held: dict[str, list[str]] = {}
    with Lookup(lake) as lookup:
        among = [lake.ledger.get(name) for name in set().union(*parents.values())]
        for artifact, name in lookup.rows("episodes", now, among, ["artifact_id", "episode_id"]):
            held.setdefault(artifact, []).append(name)
    read: dict[tuple[str, str], list[str]] = {}
    for ref in readers:
        names = [name for parent in parents[ref.artifact_id] for name in held.get(parent, ())]
        listed = labels.list_of(lake, ref) if names else None
        then = labels.words(lake, listed) if listed else {}
        for name in names:
            read.setdefault((name, then.get(name, AS_RECORDED)), []).append(ref.name)
    return [
        {
            "made_with": made_with,
            "read_by": by,
            **{key: str(last[name][key]) for key in labels.COLUMNS},
            "label": now[name],
        }
        for (name, made_with), by in sorted(read.items())
    ]


def _counted(rows: Iterable[dict[str, Any]], key: str) -> str:
    """'131 real, 238 imagined', or 'none'."""
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row[key]] += row["count"]
    return ", ".join(f"{count} {name}" for name, count in sorted(totals.items()) if count) or "none"
