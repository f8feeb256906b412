"""Quarantine: episodes that nothing made from now on may use. What was made before keeps them, and can be seen to.

The list (an artifact of its own: every change commits the complete list, so it can be read as of any moment), and what
it leaves out of an artifact about to be made; handles leave the rows out. Imagined episodes that started from a
quarantined one go too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import listed
from vlaw_assets.lake.artifact import ArtifactRef, Identity
from vlaw_assets.lake.listed import Change
from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.once import once
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

ASSET = ROLE = "quarantine"
"""Name of the asset and of its only table, and role of the edges to it."""


def latest(lake: Lake) -> ArtifactRef | None:
    """The list as this lake sees it, also as of a moment."""
    return listed.latest(lake, ASSET)


def quarantined(lake: Lake, ref: ArtifactRef | None = None) -> dict[str, dict[str, Any]]:
    """Episode id -> {episode_id, why, by, at}, in the order they were added; of one list, default the latest."""
    rows = listed.rows(lake, ref or latest(lake), ("episode_id", "why", "by", "at"))
    return {row["episode_id"]: row for row in rows}


def in_force(lake: Lake) -> dict[str, str]:
    """Every episode that nothing may count now, or at the lake's moment: id -> the one on the list that it goes back
    to.

    The listed ones and what was imagined from them: the one rule of what success rates, searches and pages leave out.
    """
    ref = latest(lake)
    if ref is None or not ref.num_rows:
        return {}
    with Lookup(lake) as lookup:
        return lookup.with_started(quarantined(lake, ref))


def add(lake: Lake, ids: Sequence[str], *, why: str, by: str, run_id: str = "quarantine") -> Change:
    """Quarantine episodes. Raises VlawError, and changes nothing, if one of them is in no artifact or `why` is
    empty."""
    if not why.strip():
        raise VlawError("a reason is missing", where="quarantine", remedy="say why: --why 'the camera had slipped'")
    if unknown := listed.unknown(lake, ids):
        raise VlawError(
            f"no artifact holds an episode {', '.join(unknown)}",
            where=str(lake.paths.root),
            remedy='look it up: vlaw sql "select episode_id, task, success from episodes"',
        )
    at = datetime.now(UTC)
    return _change(
        lake,
        ids,
        {"change": "quarantined", "why": why},
        by,
        run_id,
        lambda rows, name: rows | {name: {"episode_id": name, "why": why, "by": by, "at": at}},
        lambda rows, name: name not in rows,
    )


def release(lake: Lake, ids: Sequence[str], *, why: str, by: str, run_id: str = "quarantine") -> Change:
    """Take episodes off the list again; who and why is kept with the new list's metrics."""
    return _change(
        lake,
        ids,
        {"change": "released", "why": why},
        by,
        run_id,
        lambda rows, name: {key: row for key, row in rows.items() if key != name},
        lambda rows, name: name in rows,
    )


def without_quarantined(
    lake: Lake,
    identity: Identity,
    parents: Iterable[ArtifactRef],
    *,
    force: bool = False,
    occurring: Mapping[str, set[str]] | None = None,
) -> tuple[Identity, ArtifactRef | None]:
    """The identity of what is made now: with the quarantined episodes among its parents' rows excluded.

    Where the ledger has the same artifact with fewer exclusions and the others never went into it, its identity is
    returned instead: it is exactly what would be made. Not with `force`, where it is made in any case.

    Args:
        occurring: `occurrences(lake)`, where a caller has many questions.

    Returns: (identity, the list to name in `Draft.leave_out`, None where nothing is excluded).
    """
    ref = latest(lake)
    if ref is None:
        return identity, None
    owners = list({parent.owner: lake.ledger.get(parent.owner) for parent in parents}.values())
    here = occurrences(lake, owners) if occurring is None else occurring
    excluded = set().union(*(here.get(owner.artifact_id, ()) for owner in owners))
    if not excluded:
        return identity, None
    full = dataclasses.replace(identity, excluded=tuple(excluded))
    if not force and lake.ledger.find(full) is None:
        for made in lake.ledger.but_for_exclusions(full):
            then = list_of(lake, made)
            left_out = excluded & set(_closed(lake, then.artifact_id) if then else ())
            fewer = dataclasses.replace(identity, excluded=tuple(left_out))
            if fewer.digest == made.identity_digest and not _used(lake, made, excluded - left_out, occurring):
                return fewer, then
    return full, ref


def without_own(lake: Lake, identity: Identity, listed: ArtifactRef | None) -> tuple[Identity, ArtifactRef | None]:
    """The same for what is made with episodes of its own: also without those that are quarantined of what this very
    identity made before. `listed`: the list that is named already."""
    ref = latest(lake)
    while ref is not None and (made := lake.ledger.find(identity)) is not None:
        own = occurrences(lake, [lake.ledger.get(made.owner)]).get(made.owner, set()) - set(identity.excluded)
        if not own:
            break
        identity, listed = dataclasses.replace(identity, excluded=(*identity.excluded, *sorted(own))), ref
    return identity, listed


def occurrences(lake: Lake, among: Iterable[ArtifactRef] | None = None) -> dict[str, set[str]]:
    """Artifact id -> the quarantined episodes, and those imagined from them, that its rows name; of all artifacts, or
    of some."""
    if among is None:
        return _everywhere(lake)
    ref = latest(lake)
    if ref is None:
        return {}
    with Lookup(lake) as lookup:
        return lookup.occurring(_closed(lake, ref.artifact_id).keys(), list(among))


@once
def _everywhere(lake: Lake) -> dict[str, set[str]]:
    return occurrences(lake, lake.ledger.artifacts())


def list_of(lake: Lake, ref: ArtifactRef) -> ArtifactRef | None:
    """The list whose episodes were left out when `ref` was made; None when none were."""
    return next(
        (parent for role, parent in lake.ledger.edges(ref.owner) if role == ROLE and parent.asset == ASSET), None
    )


@once
def _closed(lake: Lake, of: str) -> dict[str, str]:
    """The episodes of a list (an artifact id) and those imagined from them: id -> the one on the list that it goes back
    to."""
    with Lookup(lake) as lookup:
        return lookup.with_started(quarantined(lake, lake.ledger.get(of)))


def _used(lake: Lake, made: ArtifactRef, ids: set[str], occurring: Mapping[str, set[str]] | None) -> bool:
    """Whether rows of these episodes went into an artifact: its rows name one, or it read one as part of a whole.

    `occurring`: where they occur in the lake, if that is known.
    """
    edges = lake.ledger.edge_rows(made.artifact_id)
    with Lookup(lake) as lookup:
        near = [made, *(lake.ledger.get(edge.parent) for edge in edges)]
        present = (
            lookup.occurring(ids, near)
            if occurring is None
            else {ref.artifact_id: held for ref in near if (held := ids & occurring.get(ref.artifact_id, set()))}
        )
        if made.artifact_id in present:
            return True
        for edge in [edge for edge in edges if edge.parent in present]:
            if edge.scope == "rows" and not made.per_episode:
                continue  # its own rows say it; else there is something for each row of the parent
            if edge.selection == "all":
                return True
            if edge.selection == "members":
                dataset = lake.ledger.get(edge.selection_id)
                read = lookup.rows("members", present[edge.parent], [dataset], ["owner", "weight"])
            else:
                read = lookup.rows("reads", present[edge.parent], [made], ["parent_id", "1.0"])
            if any(parent == edge.parent and weight > 0 for parent, weight in read):
                return True
    return False


def _change(
    lake: Lake, ids: Sequence[str], note: dict[str, Any], by: str, run_id: str, apply: Any, wanted: Any
) -> Change:
    before, rows = latest(lake), quarantined(lake)
    changed = tuple(name for name in dict.fromkeys(ids) if wanted(rows, name))
    unchanged = tuple(name for name in dict.fromkeys(ids) if name not in changed)
    if not changed:
        return Change(before, (), unchanged)
    for name in changed:
        rows = apply(rows, name)
    metrics = {**note, "by": by, "episodes": list(changed)}
    ref = listed.commit(lake, ASSET, before, list(rows.values()), metrics=metrics, run_id=run_id)
    return Change(ref, changed, unchanged)
