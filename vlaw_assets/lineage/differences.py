"""What differs between two artifacts' closures: data, recipe keys, code, judge, world model. Only the ledger and, for
the data that is not common to both, the ids of episodes are read.

Artifacts are compared with their counterpart: the same asset of the same iteration, else the last one of that asset on
the other side (the policy of iteration 02 with that of 01). Episodes count as the same when id and content are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.contents import outcome
from vlaw_assets.lake.labels import labelled, list_of, outcomes
from vlaw_assets.lake.reads import rows_read
from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.layout import levels
from vlaw_assets.lineage.reading import LEARNERS, SOURCES, name_of
from vlaw_assets.lineage.recipe_keys import by_key

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

Closure = dict[str, Any]
Rows = dict[str, tuple[Any, ...]]
"""Episode id -> (what may change, source, task, outcome)."""


def difference(lake: Lake, a: ArtifactRef, b: ArtifactRef) -> dict[str, Any]:
    """What `b` stands on and `a` does not, and the other way round. `same` is true when nothing differs.

    Returns: a, b (artifact, name, content_sha256), same, and

        episodes   {added, removed, changed} of what was read: each {counts: [{source, task, outcome, count}], ids}
        members    the same for what was learned from through a training set ("changed": another weight)
        recipe     {key: "asset.table.key", asset, a, b, of: [name, name]}
        code       {asset, a, b, revisions, of}
        judge      {a: [...], b: [...]}: names, digests and thresholds, empty where they agree
        world_model  likewise: what the imagined rollouts were made in
        artifacts  {only_a, only_b}: names with digests
    """
    return between(lake, audit_of(lake, a), audit_of(lake, b))


def between(lake: Lake, left: Closure, right: Closure) -> dict[str, Any]:
    """`difference`, from what `audit_of` says of both."""
    pairs = _pairs(left, right)
    ours = {"a": left["artifacts"], "b": right["artifacts"]}
    digests = {side: {item["content_sha256"] for item in items} for side, items in ours.items()}
    members = _members(lake, ours["a"], ours["b"])
    found: dict[str, Any] = {
        "a": _named(left),
        "b": _named(right),
        "episodes": _compared(_episodes(lake, ours["a"], ours["b"]), _episodes(lake, ours["b"], ours["a"])),
        "members": _compared(*members),
        "recipe": [row for pair in pairs for row in recipe_rows(*pair)],
        "code": [row for pair in pairs for row in code_rows(*pair)],
        "judge": _sides(_judge(left), _judge(right)),
        "world_model": _sides(*(_models(side, "imagined_rollouts", "world_model") for side in (left, right))),
        "artifacts": {"only_a": _only(ours["a"], digests["b"]), "only_b": _only(ours["b"], digests["a"])},
    }
    found["same"] = left["content_sha256"] == right["content_sha256"] and not any(
        _anything(found[key]) for key in ("episodes", "members", "recipe", "code", "judge", "world_model", "artifacts")
    )
    return found


def _anything(value: Any) -> bool:
    return any(map(_anything, value.values())) if isinstance(value, dict) else bool(value)


def _named(found: dict[str, Any]) -> dict[str, Any]:
    return {"artifact": found["artifact"], "name": name_of(found), "content_sha256": found["content_sha256"]}


def _slot(item: dict[str, Any]) -> tuple[str, str]:
    return item["asset"], item["partition"].partition("|")[2]


def _pairs(left: Closure, right: Closure) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Counterparts with unlike content or making: same iteration first, else the last of that asset."""
    sides = [[item for _, items in levels(found["artifacts"]) for item in items] for found in (left, right)]
    slots = [{_slot(item): item for item in items} for items in sides]
    last = [{item["asset"]: item for item in items} for items in sides]
    pairs = {}
    for mine, other, swap in ((0, 1, False), (1, 0, True)):
        for item in sides[mine]:
            match = slots[other].get(_slot(item)) or last[other].get(item["asset"])
            if match and match["artifact"] != item["artifact"]:
                pair = (match, item) if swap else (item, match)
                pairs[pair[0]["artifact"], pair[1]["artifact"]] = pair
    return list(pairs.values())


def recipe_rows(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Keys of two artifacts' recipes whose values differ; each artifact with asset, partition and recipe."""
    before, after = by_key(a["recipe"]), by_key(b["recipe"])
    return [
        {
            "key": f"{a['asset']}.{key}",
            "asset": a["asset"],
            "a": before.get(key),
            "b": after.get(key),
            "of": [name_of(a), name_of(b)],
        }
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def code_rows(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """That two artifacts were made by other code, if they were; each with asset, partition, code_sha256 and
    code_revision."""
    if a["code_sha256"] == b["code_sha256"]:
        return []
    return [
        {
            "asset": a["asset"],
            "a": a["code_sha256"],
            "b": b["code_sha256"],
            "revisions": [a["code_revision"], b["code_revision"]],
            "of": [name_of(a), name_of(b)],
        }
    ]


def _judge(found: Closure) -> list[dict[str, Any]]:
    """Reward model and threshold by iteration."""
    return [
        {
            "iteration": row["training_set"].rstrip("]").rpartition("|")[2],
            **{key: row[key] for key in ("judge", "judge_sha256", "alpha")},
        }
        for row in found["judges"]
    ]


def _models(found: Closure, asset: str, role: str) -> list[dict[str, Any]]:
    """The models that artifacts of `asset` were made with, by iteration."""
    by_id = {item["artifact"]: item for item in found["artifacts"]}
    read = [
        (item, by_id[edge["artifact"]])
        for item in found["artifacts"]
        if item["asset"] == asset
        for edge in item["parents"]
        if edge["role"] == role
    ]
    return [
        {"iteration": _slot(item)[1], role: name_of(model), "content_sha256": model["content_sha256"]}
        for item, model in read
    ]


def _sides(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> dict[str, Any]:
    """Both sides, without what they have in common (names aside: another experiment's artifact may hold the same)."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["iteration"], row.get("judge_sha256") or row.get("content_sha256"), row.get("alpha")

    common = set(map(key, a)) & set(map(key, b))
    return {"a": [row for row in a if key(row) not in common], "b": [row for row in b if key(row) not in common]}


def _only(mine: list[dict[str, Any]], theirs: set[str]) -> list[dict[str, Any]]:
    return [_named(item) for item in mine if item["content_sha256"] not in theirs]


def _episodes(lake: Lake, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Rows:
    """Episode id -> (content digest, source, task, outcome) of what one side read, of datasets that both do not read
    alike.

    What the audited artifact itself holds counts as read.
    """
    owners = _unlike(lake, mine, theirs)
    readers = [
        lake.ledger.get(item["owner"])
        for item in mine
        if owners & {row["parent"] for row in item["contents"].get("reads", ())}
    ]
    found = {
        row["episode_id"]: _episode(row) for row in rows_read(lake, readers, EPISODES) if row["parent_id"] in owners
    }
    last = mine[-1]
    if last["contents"].get("episodes") and last["owner"] not in {item["owner"] for item in theirs}:
        columns = ["episode_id", "content_digest", "purpose", "task", "success"]
        found |= {
            row["episode_id"]: _episode(row)
            for row in lake.read(lake.ledger.get(last["owner"])).table("episodes").select(columns).to_pylist()
        }
    return found


def _episode(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["content_digest"], SOURCES.get(row["purpose"], "real"), row["task"], outcome(row["success"])


def _unlike(lake: Lake, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> set[str]:
    """Owners of episodes that are read by an artifact of one side only."""
    sides = [{item["owner"] for item in side} for side in (mine, theirs)]
    return {
        row["parent"]
        for item in (*mine, *theirs)
        if item["owner"] in sides[0] ^ sides[1]
        for row in item["contents"].get("reads", ())
    }


EPISODES = "SELECT DISTINCT parent_id, episode_id, content_digest, purpose, task, success FROM found"
MEMBERS = """
SELECT parent_id, episode_id, max(weight) AS weight, min(source) AS source,
  any_value(task) AS task, any_value(success) AS success
FROM found WHERE weight > 0 AND source <> '' GROUP BY parent_id, episode_id
"""
"""What was learned from through a training set, with the largest weight that it had."""


def _members(lake: Lake, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> tuple[Rows, Rows]:
    """Per side, episode id -> (weight, source, task, outcome) of what its models learned from through a training set.

    Of an audited training set, which nobody has learned from yet, its members.
    """
    sets = [{item["owner"] for item in side if item["kind"] in LEARNERS} for side in (a, b)]
    sides = []
    for side, own, other in zip((a, b), sets, reversed(sets), strict=True):
        rows = rows_read(lake, [lake.ledger.get(name) for name in own], MEMBERS) if own != other else []
        found = {
            row["episode_id"]: (row["weight"], row["source"], row["task"], outcome(row["success"])) for row in rows
        }
        if side[-1]["contents"].get("members") and a[-1]["owner"] != b[-1]["owner"]:
            found |= _in_the_set(lake, lake.ledger.get(side[-1]["owner"]))
        sides.append(found)
    return sides[0], sides[1]


def _in_the_set(lake: Lake, ref: ArtifactRef) -> Rows:
    """Episode id -> (weight, source, task, outcome) of a dataset's members."""
    members = lake.read(ref).members().to_pylist()
    labels: dict[tuple[str, str], tuple[str, str]] = {}
    listed = list_of(lake, ref)
    said = outcomes(lake, listed) if listed else {}
    for owner in {row["owner"] for row in members}:
        rows = labelled(lake.read(lake.ledger.get(owner)).table("episodes"), said)
        rows = rows.select(["episode_id", "task", "success"]).to_pylist()
        labels |= {(owner, row["episode_id"]): (row["task"], outcome(row["success"])) for row in rows}
    return {
        row["episode_id"]: (
            row["weight"],
            row["source"],
            *labels.get((row["owner"], row["episode_id"]), ("?", outcome(None))),
        )
        for row in members
    }


def _compared(a: dict[str, tuple[Any, ...]], b: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Added, removed and changed ids (the first value of a row is what may change), with counts."""
    groups = {
        "added": {key: b[key] for key in b.keys() - a.keys()},
        "removed": {key: a[key] for key in a.keys() - b.keys()},
        "changed": {key: b[key] for key in a.keys() & b.keys() if a[key][0] != b[key][0]},
    }
    return {
        name: {
            "counts": [
                {"source": source, "task": task, "outcome": label, "count": count}
                for (source, task, label), count in sorted(Counter(row[1:] for row in rows.values()).items())
            ],
            "ids": sorted(rows),
        }
        for name, rows in groups.items()
    }
