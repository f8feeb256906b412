"""What belongs to an episode: the ones beside it, its scores, what it reached and what is like it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.lake.picking import Key, Picked
from vlaw_assets.lineage.impact import Reached, reached_by_each
from vlaw_assets.reports.threshold import alpha_of

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

LIKE = 6
"""Neighbours of an episode."""
MOST_LIKE = 3
"""Episodes on a page for which neighbours are looked up; on a larger page the command is printed."""
TRUTH = "simulator"
"""Judge of scores that are true outcomes (assets/imagined_outcomes.py)."""
TOLD = ("training_set", "world_model", "reward_model", "policy")
"""Kinds of artifacts that are named among those that an episode reached; all where it reached none of them."""
REPLAY = "replay"


@dataclass(frozen=True)
class Beside:
    """An episode to be watched beside another one."""

    key: Key
    how: str
    """What it is to the other one."""
    distance: float | None = None
    """Of one that is alike."""


def beside(lake: Lake, shown: Mapping[Key, Picked], each: int) -> dict[Key, list[Beside]]:
    """Per episode at most `each` others: the real one that it starts from, what was replayed or imagined from the same
    start, newest first."""
    starts = {key: picked.episode.start_episode_id for key, picked in shown.items()}
    roots = {start or key[1] for key, start in starts.items()}
    refs = lake.ledger.artifacts()
    place = {ref.artifact_id: number for number, ref in enumerate(refs)}
    columns = ["artifact_id", "episode_id", "start_episode_id", "purpose"]
    with Lookup(lake) as lookup:
        real = lookup.rows("episodes", {start for start in starts.values() if start}, refs, columns[:2])
        others = lookup.rows("episodes", roots, refs, columns, column="start_episode_id") if each else []
    newest = {name: artifact for artifact, name in sorted(real, key=lambda row: place[row[0]])}
    below: dict[str, list[tuple[Key, str]]] = defaultdict(list)
    for artifact, name, start, purpose in sorted(others, key=lambda row: (row[3] != REPLAY, -place[row[0]], row[1])):
        below[start].append(((artifact, name), purpose))
    found = {}
    for key, start in starts.items():
        listed = []
        if start is not None and start in newest:
            listed.append(Beside((newest[start], start), "the real episode that it starts from"))
        for other, purpose in below[start or key[1]]:
            if other != key:
                from_it = "the same start" if start else "its first frame"
                how = "replayed in the world model" if purpose == REPLAY else f"{purpose} from {from_it}"
                listed.append(Beside(other, how))
        found[key] = listed[:each]
    return found


def alike(lake: Lake, shown: Collection[Key]) -> dict[Key, list[Beside]]:
    """Per episode that has an embedding its nearest neighbours; empty where the page has too many episodes."""
    from vlaw_assets.query import similarity

    if len(shown) > MOST_LIKE:
        return {}
    names = similarity.embedded(lake, {name for _, name in shown})
    found = {}
    for key in shown:
        if key[1] in names:
            neighbours = similarity.similar(lake, key[1], k=LIKE).neighbours
            found[key] = [
                Beside((item.owner, item.episode_id), f"alike, distance {item.distance:.3f}", item.distance)
                for item in neighbours
            ]
    return found


def scores(lake: Lake, shown: Collection[Key]) -> dict[Key, dict[str, Any]]:
    """Per episode that was scored: {"p", "by", "alpha"} of the newest judge, {"truth"} where the simulator said it."""
    refs = lake.ledger.artifacts()
    place = {ref.artifact_id: number for number, ref in enumerate(refs)}
    ids = {name for _, name in shown}
    with Lookup(lake) as lookup:
        rows = lookup.rows("reward_scores", ids, refs, ["artifact_id", "episode_id", "owner", "judge", "p_success"])
    found: dict[Key, dict[str, Any]] = defaultdict(dict)
    # Those of the stage that decides what is learned from come last, and win.
    rank = {ref.artifact_id: (ref.asset == "reward_scores", place[ref.artifact_id]) for ref in refs}
    for artifact, name, owner, judge, p in sorted(rows, key=lambda row: rank[row[0]]):
        for key in [(owner, name)] if owner else [key for key in shown if key[1] == name]:
            if key in shown and judge == TRUTH:
                found[key]["truth"] = p > 0.5
            elif key in shown:
                ref = lake.ledger.get(artifact)
                found[key] |= {"p": p, "by": ref.name, "alpha": _alpha(lake, ref)}
    return dict(found)


def _alpha(lake: Lake, scored: ArtifactRef) -> float | None:
    """The threshold above which a score of this artifact was learned from."""
    ref = lake.ledger.current("training_set", scored.partition) if scored.asset == "reward_scores" else None
    return alpha_of(ref) if ref else None


def reached(lake: Lake, shown: Collection[Key]) -> dict[Key, dict[str, Any]]:
    """Per episode {"total": artifacts, "told": [[name, 'whole' or its rows, whether current]]}, newest first."""
    return {key: _told(found) for key, found in reached_by_each(lake, shown).items()}


def _told(found: list[Reached]) -> dict[str, Any]:
    told = [
        [item.ref.name, "whole" if item.how == "whole" else f"{item.rows} of its rows", item.is_current]
        for item in [item for item in reversed(found) if item.ref.kind in TOLD] or reversed(found)
    ]
    return {"total": len({item.ref.owner for item in found}), "told": told}


def labelled(lake: Lake, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Per episode that people labelled {"labels": every label, the oldest first; "outcome", "event" and "label": what
    the last one says, and whose it is}."""
    from vlaw_assets.lake import labels
    from vlaw_assets.lake.rules import LABELS, WORLD_MODEL_ONLY

    found: dict[str, dict[str, Any]] = {}
    for row in labels.history(lake):
        if row["episode_id"] in names:
            said = found.setdefault(row["episode_id"], {"labels": []})
            given = {key: row[key] for key in ("label", "who", "why")} | {"at": f"{row['at']:%Y-%m-%d %H:%M} UTC"}
            said["labels"].append(given)
            if row["label"] in LABELS:
                said["outcome"] = "success" if labels.success(row) else "failure"
                said["event"], said["label"] = row["label"], row["who"]
    for name, row in labels.decisions(lake).items():
        if name in found and row["label"] == WORLD_MODEL_ONLY:
            found[name] |= {"outcome": "not judged", "event": row["label"], "label": row["who"]}
    return found


def quarantined(lake: Lake, shown: Collection[Key]) -> dict[str, str]:
    """Id -> why, of those in quarantine or imagined from one that is."""
    from vlaw_assets.lake import quarantine

    forced, why = quarantine.in_force(lake), quarantine.quarantined(lake) if shown else {}
    names = {name for _, name in shown} & forced.keys()
    return {name: str(why.get(forced[name], {}).get("why", "")) for name in names}
