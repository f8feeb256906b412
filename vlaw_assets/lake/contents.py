"""What an artifact holds, as counts: made once at its commit and kept in its ledger row, so that an audit reads no
data.

    {"episodes": [{purpose, task, outcome, count, steps}],
     "members":  [{source, task, outcome, count, weight}],      per weight of a single member
     "scores":   [{judge, count, mean}],
     "reads":    [{parent, role, source, purpose, task, outcome, weight, count, steps}]}    over its edges, see reads.py

An outcome is by the labels that it was made with, none for an episode that is for world models alone; what was
recorded, where it is another one, is beside that of a read.

Plain values in a fixed order: counting the same rows again gives the same text, which is how upkeep/verify.py checks
it. A key is left out where the artifact has no such rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vlaw_assets.lake import labels, reads

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

COUNTED = ("episodes", "members", "reward_scores")
"""The tables that are counted."""
LABELS = ["artifact_id", "episode_id", "task", "success"]
STORED = [*LABELS, "extra_json"]
"""What members are counted by."""
SUCCESS, FAILURE, NOT_JUDGED = "success", "failure", "not judged"
UNKNOWN_TASK = "?"
"""Task of a member whose owner has no such episode."""


def contents(tables: Mapping[str, pa.Table], episodes_of: Callable[[str], pa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Counts of the rows of one artifact.

    Args:
        tables: its rows by table; other tables than `COUNTED` are not looked at.
        episodes_of: owner's artifact id -> its table `episodes`; called once for every owner of members.
    """
    found = {}
    if (rows := _rows(tables, "episodes")) is not None:
        found["episodes"] = _episodes(rows)
    if (rows := _rows(tables, "members")) is not None:
        owners = pc.unique(rows["owner"]).to_pylist()
        found["members"] = _members(rows, [episodes_of(owner) for owner in sorted(owners)])
    if (rows := _rows(tables, "reward_scores")) is not None:
        found["scores"] = _scores(rows)
    return found


def at_commit(
    lake: Lake, artifact_id: str, tables: Mapping[str, pa.Table], *, per_episode: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Contents of an artifact whose ledger row is about to be written; `per_episode`: it holds
    something of every episode that it read by rows."""
    edges = tables["edges"].select(["role", "parent_id"]).to_pylist() if "edges" in tables else []
    parents = [edge["parent_id"] for edge in edges]
    said = _said(lake, [(edge["role"], edge["parent_id"]) for edge in edges])
    found = contents(
        tables,
        lambda owner: (
            labels.labelled(tables["episodes"], {})
            if owner == artifact_id and "episodes" in tables
            else _episodes_of(lake, owner, said)
        ),
    )
    if reads.holds_episodes(lake, parents) or "episodes" in found:
        rows = reads.counts_at_commit(lake, artifact_id, tables, per_episode=per_episode)
        if rows or reads.holds_episodes(lake, parents):
            found["reads"] = rows
    return found


def recounted(lake: Lake, ref: ArtifactRef) -> dict[str, list[dict[str, Any]]]:
    """Contents counted again from the rows of the artifact that holds the data of `ref`."""
    owner = lake.ledger.get(ref.owner)
    tables = {name: lake.tables.read(name, owner.versions[name]) for name in COUNTED if name in owner.versions}
    edges = lake.ledger.edge_rows(owner.artifact_id)
    said = _said(lake, [(edge.role, edge.parent) for edge in edges])
    found = contents(tables, lambda other: _episodes_of(lake, other, said))
    read = reads.holds_episodes(lake, (edge.parent for edge in edges))
    if read or "episodes" in found:
        rows = reads.counts(lake, owner)
        if rows or read:
            found["reads"] = rows
    return found


def contents_of(lake: Lake, ref: ArtifactRef) -> dict[str, list[dict[str, Any]]]:
    """Contents as the ledger has them; counted again where it was committed before they were kept, or before its reads
    were."""
    if not ref.contents_json:
        return recounted(lake, ref)
    found = json.loads(ref.contents_json)
    if "reads" not in found and reads.holds_episodes(lake, (edge.parent for edge in lake.ledger.edge_rows(ref.owner))):
        found["reads"] = reads.counts(lake, lake.ledger.get(ref.owner))
    return found


def outcome(success: bool | None) -> str:  # noqa: FBT001 (a value, not a switch)
    """The word for an episode's label."""
    return NOT_JUDGED if success is None else SUCCESS if success else FAILURE


def _rows(tables: Mapping[str, pa.Table], name: str) -> pa.Table | None:
    table = tables.get(name)
    return table if table is not None and table.num_rows else None


def _said(lake: Lake, edges: list[tuple[str, str]]) -> dict[str, bool | None]:
    """The labels that an artifact with these edges (role, parent) was made with."""
    return next((labels.outcomes(lake, lake.ledger.get(parent)) for role, parent in edges if role == labels.ROLE), {})


def _episodes_of(lake: Lake, owner: str, said: Mapping[str, bool | None]) -> pa.Table:
    return labels.labelled(lake.tables.read("episodes", lake.ledger.get(owner).versions.get("episodes"), STORED), said)


def _episodes(rows: pa.Table) -> list[dict[str, Any]]:
    groups = (
        labels.labelled(rows, {})
        .group_by(["purpose", "task", "success"])
        .aggregate([("num_steps", "sum"), ([], "count_all")])
    )
    return _sorted(
        {
            "purpose": row["purpose"],
            "task": row["task"],
            "outcome": outcome(row["success"]),
            "count": row["count_all"],
            "steps": row["num_steps_sum"],
        }
        for row in groups.to_pylist()
    )


def _members(rows: pa.Table, episodes: list[pa.Table]) -> list[dict[str, Any]]:
    labels = pa.concat_tables([table.select(LABELS) for table in episodes])
    joined = rows.select(["owner", "episode_id", "source", "weight"]).join(
        labels, keys=["owner", "episode_id"], right_keys=["artifact_id", "episode_id"], join_type="left outer"
    )
    groups = joined.group_by(["source", "task", "success", "weight"]).aggregate([([], "count_all")])
    return _sorted(
        {
            "source": row["source"],
            "task": row["task"] if row["task"] is not None else UNKNOWN_TASK,
            "outcome": outcome(row["success"]),
            "count": row["count_all"],
            "weight": row["weight"],
        }
        for row in groups.to_pylist()
    )


def _scores(rows: pa.Table) -> list[dict[str, Any]]:
    found = []
    for judge in sorted(pc.unique(rows["judge"]).to_pylist()):
        values = rows.filter(pc.equal(rows["judge"], judge))["p_success"].to_numpy()
        # fsum is exact: the mean does not depend on the order in which files are read.
        found.append({"judge": judge, "count": len(values), "mean": math.fsum(values) / len(values)})
    return found


def _sorted(rows: Any) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [str(value) for key, value in row.items() if key not in ("count", "steps")])
