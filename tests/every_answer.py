"""Every answer of the program about one artifact, held against the raw tables."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from asking import ask
from raw_oracle import Raw

from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.lineage.closure import audit_of, short
from vlaw_assets.lineage.impact import impact
from vlaw_assets.lineage.provenance import statement
from vlaw_assets.query import connect


def check_every_answer(lake: Lake, asset: str, partition: str) -> dict[str, Any]:
    """The audit in all its forms, SQL, provenance and the report of one artifact, against the oracle. Returns the
    audit."""
    ref, raw = lake.ledger.require(asset, partition), Raw(lake.paths.root)
    found = audit_of(lake, ref)
    node = found["artifacts"][-1]["artifact"]
    owners = {item["artifact"]: item["owner"] for item in found["artifacts"]}
    names = {
        name: row["asset"] + (f"[{row['partition']}]" if row["partition"] else "")
        for name, row in raw.artifacts.items()
    }
    assert {item["artifact"] for item in found["artifacts"]} == raw.closure(ref.artifact_id)

    learned = raw.learned(ref.artifact_id)
    held_by = {names[item["artifact"]]: item["owner"] for item in found["artifacts"]}
    said: Counter = Counter()
    for row in found["learned"]:
        said[row["artifact"], held_by[row["dataset"]], row["task"], row["outcome"]] += row["count"]
    assert said == learned

    episodes = Counter()
    for row in found["episodes"]:
        if row["count"]:
            episodes[owners[row["artifact"]], row["purpose"], row["task"], row["outcome"]] += row["count"]
        assert row["count"] <= row["held"]
    assert episodes == raw.episodes(ref.artifact_id)

    own = Counter({key[1:]: count for key, count in learned.items() if key[0] == node})
    with connect(lake) as query:
        rows = ask(query, "learned_from", artifact_id=ref.artifact_id)
        kinds = Counter()
        for row in rows:
            kinds[row["dataset"], row["partition"], row["task"], row["outcome"]] += row["episodes"]
        if raw.artifacts[node]["kind"] in ("policy", "world_model", "reward_model"):
            assert kinds == Counter(
                {
                    (raw.artifacts[name]["asset"], raw.artifacts[name]["partition"], *rest): count
                    for (name, *rest), count in own.items()
                }
            )
    if asset in ("policy", "world_model", "reward_model"):
        total = sum(own.values())
        assert sum(int(n) for n in re.findall(r"(\d+) \w+", short(found).partition("learned from:")[2])) == total
        made = statement(lake, ref)["predicate"]["buildDefinition"]
        assert sum(row["count"] for row in made["internalParameters"]["learnedFrom"]) == total
        read = Counter()
        for entry in made["resolvedDependencies"]:
            for row in entry["annotations"]["episodesRead"]:
                read[row["purpose"]] += row["count"]
        # What a learner made itself while it learned is no dependency.
        given = [(key[1], count) for key, count in episodes.items() if key[0] != owners[node]]
        assert read == Counter(
            {"": 0} | {purpose: sum(count for p, count in given if p == purpose) for purpose in read}
        )
    listed = quarantine.quarantined(lake)
    assert {row["episode_id"]: row["in_closure"] for row in found["quarantine"]} == {
        name: any(item.ref.artifact_id in (node, ref.artifact_id) for item in impact(lake, name)) for name in listed
    }
    return found
