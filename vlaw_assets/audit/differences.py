"""What differs between two artifacts' closures: data, recipe keys, code, judge, world model. Only the ledger and, for the
data that is not common to both, the ids of episodes are read.

Artifacts are compared with their counterpart: the same asset of the same iteration, else the last one of that asset on
the other side (the policy of iteration 02 with that of 01). Episodes count as the same when id and content are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vlaw_assets.audit.closure import SOURCES, audit_of, levels, name_of
from vlaw_assets.audit.replay import flat
from vlaw_assets.lake.contents import outcome
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

Closure = dict[str, Any]
Rows = dict[str, tuple[Any, ...]]
"""Episode id -> (what may change, source, task, outcome)."""


def difference(lake: Lake, a: ArtifactRef, b: ArtifactRef) -> dict[str, Any]:
    """What `b` stands on and `a` does not, and the other way round. `same` is true when nothing differs.

    Returns: a, b (artifact, name, content_sha256), same, and

        episodes   {added, removed, changed}: each {counts: [{source, task, outcome, count}], ids}
        members    the same for what was learned from ("changed": another weight)
        recipe     {key: "asset.table.key", asset, a, b, of: [name, name]}
        code       {asset, a, b, revisions, of}
        judge      {a: [...], b: [...]}: names, digests and thresholds, empty where they agree
        world_model  likewise: what the imagined rollouts were made in
        artifacts  {only_a, only_b}: names with digests
    """
    left, right = audit_of(lake, a), audit_of(lake, b)
    pairs = _pairs(left, right)
    ours = {"a": left["artifacts"], "b": right["artifacts"]}
    digests = {side: {item["content_sha256"] for item in items} for side, items in ours.items()}
    members = _members(lake, ours["a"], ours["b"])
    found: dict[str, Any] = {
        "a": _named(left), "b": _named(right),
        "episodes": _compared(_episodes(lake, ours["a"], ours["b"]), _episodes(lake, ours["b"], ours["a"])),
        "members": _compared(*members),
        "recipe": [row for pair in pairs for row in _recipe(*pair)],
        "code": [row for pair in pairs for row in _code(*pair)],
        "judge": _sides(_judge(left), _judge(right)),
        "world_model": _sides(*(_models(side, "imagined_rollouts", "world_model") for side in (left, right))),
        "artifacts": {"only_a": _only(ours["a"], digests["b"]), "only_b": _only(ours["b"], digests["a"])},
    }
    found["same"] = left["content_sha256"] == right["content_sha256"] and not any(
        _anything(found[key]) for key in ("episodes", "members", "recipe", "code", "judge", "world_model", "artifacts"))
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


def _recipe(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    before, after = flat(a["recipe"]), flat(b["recipe"])
    return [{"key": f"{a['asset']}.{key}", "asset": a["asset"], "a": before.get(key), "b": after.get(key),
             "of": [name_of(a), name_of(b)]}
            for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]


def _code(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    if a["code_sha256"] == b["code_sha256"]:
        return []
    return [{"asset": a["asset"], "a": a["code_sha256"], "b": b["code_sha256"],
             "revisions": [a["code_revision"], b["code_revision"]], "of": [name_of(a), name_of(b)]}]


def _judge(found: Closure) -> list[dict[str, Any]]:
    """Judge and threshold by iteration."""
    return [{"iteration": row["training_set"].rstrip("]").rpartition("|")[2],
             **{key: row[key] for key in ("judge", "judge_sha256", "alpha")}} for row in found["judges"]]


def _models(found: Closure, asset: str, role: str) -> list[dict[str, Any]]:
    """The models that artifacts of `asset` were made with, by iteration."""
    by_id = {item["artifact"]: item for item in found["artifacts"]}
    read = [(item, by_id[edge["artifact"]]) for item in found["artifacts"] if item["asset"] == asset
            for edge in item["parents"] if edge["role"] == role]
    return [{"iteration": _slot(item)[1], role: name_of(model), "content_sha256": model["content_sha256"]} for item, model in read]


def _sides(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> dict[str, Any]:
    """Both sides, without what they have in common (names aside: another experiment's artifact may hold the same)."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["iteration"], row.get("judge_sha256") or row.get("content_sha256"), row.get("alpha")

    common = set(map(key, a)) & set(map(key, b))
    return {"a": [row for row in a if key(row) not in common], "b": [row for row in b if key(row) not in common]}


def _only(mine: list[dict[str, Any]], theirs: set[str]) -> list[dict[str, Any]]:
    return [_named(item) for item in mine if item["content_sha256"] not in theirs]


def _episodes(lake: Lake, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Episode id -> (content digest, source, task, outcome) of what one side read and the other did not read alike."""
    found: dict[str, tuple[Any, ...]] = {}
    other = _reads(lake, theirs)
    for owner, how in _reads(lake, mine).items():
        if how == other.get(owner):
            continue
        ref = lake.ledger.get(owner)
        chosen = _chosen(lake, owner, how)
        columns = ["episode_id", "content_digest", "purpose", "task", "success"]
        for row in lake.read(ref).table("episodes").select(columns).to_pylist():
            if chosen is None or row["episode_id"] in chosen:
                source = SOURCES.get(row["purpose"], "real")
                found[row["episode_id"]] = row["content_digest"], source, row["task"], outcome(row["success"])
    return found


def _reads(lake: Lake, items: list[dict[str, Any]]) -> dict[str, frozenset[tuple[str, str, str]]]:
    """Owner of episodes -> how they were read in a closure: selections, each {(selection, dataset or reader, excluded by)}.

    An artifact that nobody in the closure read (the audited one itself) counts as read whole.
    """
    reads: dict[str, set[tuple[str, str, str]]] = {}
    reads |= {item["artifact"]: set() for item in items if item["contents"].get("episodes")}
    for item in items:
        edges = lake.ledger.edge_rows(item["artifact"])
        left_out = next((edge.parent for edge in edges if edge.role == "quarantine"), "")
        for edge in edges:
            if edge.parent in reads:
                names = {"members": edge.selection_id, "listed": item["artifact"]}
                reads[edge.parent].add((edge.selection, names.get(edge.selection, ""), left_out))
    return {owner: frozenset(how) for owner, how in reads.items()}


def _chosen(lake: Lake, owner: str, how: frozenset[tuple[str, str, str]]) -> set[str] | None:
    """Ids that were read of an artifact; None for all."""
    from vlaw_assets.lake.quarantine import quarantined

    if not how or any(selection == "all" and not left_out for selection, _, left_out in how):
        return None
    chosen: set[str] = set()
    for selection, name, left_out in how:
        if selection == "members":
            rows = lake.read(lake.ledger.get(name)).members().to_pylist()
            chosen |= {row["episode_id"] for row in rows if row["owner"] == owner and row["weight"] > 0}
        elif selection == "listed":
            rows = lake.read(lake.ledger.get(name)).table("reads").to_pylist()
            chosen |= {row["episode_id"] for row in rows if row["parent_id"] == owner}
        else:
            excluded = set(quarantined(lake, lake.ledger.get(left_out)))
            rows = lake.read(lake.ledger.get(owner)).table("episodes").select(["episode_id", "start_episode_id"]).to_pylist()
            chosen |= {row["episode_id"] for row in rows if not {row["episode_id"], row["start_episode_id"]} & excluded}
    return chosen


MEMBERS = """
WITH a AS (SELECT episode_id, min(owner) AS owner, min(source) AS source, max(weight) AS weight FROM {a} GROUP BY episode_id),
     b AS (SELECT episode_id, min(owner) AS owner, min(source) AS source, max(weight) AS weight FROM {b} GROUP BY episode_id)
SELECT episode_id, coalesce(b.owner, a.owner), coalesce(b.source, a.source), a.weight, b.weight
FROM a FULL JOIN b USING (episode_id) WHERE a.weight IS DISTINCT FROM b.weight
"""
"""Members of any dataset of either closure, with the largest weight they had, where the two sides do not agree."""
NO_MEMBERS = "(SELECT '' AS episode_id, '' AS owner, '' AS source, 0.0 AS weight WHERE false)"


def _members(lake: Lake, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> tuple[Rows, Rows]:
    """Per side, episode id -> (weight, source, task, outcome) of the members that are not the same on both."""
    sets = [[item["artifact"] for item in side if item["contents"].get("members")] for side in (a, b)]
    if set(sets[0]) == set(sets[1]):
        return {}, {}
    rows = _query(lake, MEMBERS.format(**{name: _source(lake, side, "members") for name, side in zip("ab", sets, strict=True)}))
    owners = sorted({owner for _, owner, *_ in rows})
    held = {owner: lake.read(lake.ledger.get(owner)).table("episodes").select(["episode_id", "task", "success"]) for owner in owners}
    labels = {(owner, row["episode_id"]): (row["task"], outcome(row["success"]))
              for owner, table in held.items() for row in table.to_pylist()}
    unknown = "?", outcome(None)
    sides: tuple[Rows, Rows] = {}, {}
    for name, owner, source, *weights in rows:
        for side, weight in zip(sides, weights, strict=True):
            if weight is not None:
                side[name] = weight, source, *labels.get((owner, name), unknown)
    return sides


def _source(lake: Lake, artifacts: list[str], table: str) -> str:
    """The rows of these artifacts as a SQL expression: exactly the files that the ledger names."""
    files = [str(lake.paths.root / file["path"]) for name in artifacts for file in lake.ledger.get(name).versions[table]["files"]]
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    return f"read_parquet([{quoted}], hive_partitioning = false)" if files else NO_MEMBERS


def _query(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    import duckdb

    connection = duckdb.connect(":memory:", config={"memory_limit": "2GB"})
    try:
        return connection.execute(sql).fetchall()
    except duckdb.Error as error:
        raise VlawError(f"members cannot be read: {str(error).strip()}", where=str(lake.paths.root),
                        remedy="vlaw audit ... --verify names the files; restore them.") from error
    finally:
        connection.close()


def _compared(a: dict[str, tuple[Any, ...]], b: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Added, removed and changed ids (the first value of a row is what may change), with counts."""
    groups = {
        "added": {key: b[key] for key in b.keys() - a.keys()},
        "removed": {key: a[key] for key in a.keys() - b.keys()},
        "changed": {key: b[key] for key in a.keys() & b.keys() if a[key][0] != b[key][0]},
    }
    return {name: {"counts": [{"source": source, "task": task, "outcome": label, "count": count}
                              for (source, task, label), count in sorted(Counter(row[1:] for row in rows.values()).items())],
                   "ids": sorted(rows)} for name, rows in groups.items()}
