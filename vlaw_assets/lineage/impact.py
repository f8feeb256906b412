"""What an episode or an artifact reached: everything made from it, transitively, by row membership.

What is tainted in an artifact is 'whole' or a set of rows, named by (holder, episode id). It travels along an edge:
- whole: to all of the child, whatever the edge;
- rows, over an edge of scope 'rows': to the child's rows that name a tainted row (members, scores, imagined episodes);
- rows that a policy holds, which it made while it learned: to all of the policy;
- rows, over an edge of scope 'whole': to all of the child if a tainted row was in the edge's selection.
- over the edge to the state that chose the child's models: to all of the child, where it reached what that state
  decided
  about one of the models that the child took.
A list of quarantined episodes that the child was made with takes rows out of every edge first. Parents are committed
before their children, so one pass in commit order sees everything. What is imprecise is so in one direction: an
artifact of a lake that was migrated from format 1 counts as having read all of every parent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import quarantine
from vlaw_assets.lake.artifact import CHOSEN_BY
from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.loop_roles import model_decided_by
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Edge, Lake

Key = tuple[str, str]
"""(artifact that holds the episode, episode id): ids repeat where an artifact was made again by force."""


@dataclass(frozen=True)
class Subject:
    """What the question is about: one episode with the artifacts that hold it, or one artifact."""

    name: str
    holders: tuple[ArtifactRef, ...]
    is_episode: bool


@dataclass(frozen=True)
class Reached:
    """One artifact that would, or could, be another one without the subject."""

    ref: ArtifactRef
    how: str
    """'whole': everything in it depends on the subject; 'rows': only those rows that name it."""
    rows: int
    """How many rows depend on it; for 'whole' all."""
    via: str
    """The first way it came: name of the parent, and the role it was read in."""
    is_current: bool


@dataclass
class _Taint:
    """What of one artifact is tainted. `keys` are the names its rows go by downstream."""

    whole: bool = False
    keys: set[Key] = field(default_factory=set)
    rows: int = 0
    via: str = ""
    roles: set[str] = field(default_factory=set)
    """Roles in which it came in as a whole."""

    def __bool__(self) -> bool:
        return self.whole or bool(self.keys)


def find_subject(lake: Lake, name: str) -> Subject:
    """An artifact ('policy[vlaw|01]', an id, or 8 or more characters that begin one), or else an episode id.

    Raises VlawError when neither is in the lake, or when the beginning of an id fits several.
    """
    refs = lake.ledger.artifacts()
    named = [ref for ref in refs if name in (ref.name, ref.artifact_id)][-1:]
    begun = [ref for ref in refs if len(name) >= 8 and ref.artifact_id.startswith(name)]
    if len(begun) > 1 and not named:
        raise VlawError(
            f"{name!r} begins the ids of {len(begun)} artifacts",
            where=str(lake.paths.root),
            remedy=f"give more of it: {', '.join(ref.artifact_id for ref in begun[:3])}",
        )
    if named or begun:
        return Subject(name, tuple(named or begun), is_episode=False)
    with Lookup(lake) as lookup:
        holders = lookup.holders(name)
    if not holders:
        raise VlawError(
            f"{name!r} is neither an episode nor an artifact of this lake",
            where=str(lake.paths.root),
            remedy='give an episode id (vlaw sql "select episode_id from episodes"), an artifact id, '
            "or a name like policy[vlaw|01]",
        )
    return Subject(name, tuple(holders), is_episode=True)


def impact(lake: Lake, subject: str | Subject) -> list[Reached]:
    """Everything that the subject reached, in commit order; the subject itself and what holds it are left out."""
    subject = find_subject(lake, subject) if isinstance(subject, str) else subject
    if subject.is_episode:
        return reached_by_episodes(lake, [subject.name], list(subject.holders))
    ref = subject.holders[0]
    start = {ref.owner: _Taint(whole=True, via=f"holds the data of {ref.name}")}
    return _pass(lake, start, _Rows(), leave_out={ref.artifact_id})


def reached_by_episodes(lake: Lake, ids: Sequence[str], holders: Sequence[ArtifactRef]) -> list[Reached]:
    """What episodes reached that the artifacts `holders` hold."""
    rows = _rows(lake, set(ids), holders)
    start = _held(lake, rows, set(ids))
    return _pass(lake, start, rows, leave_out=_only_hold(start))


def reached_by_each(lake: Lake, held: Collection[Key]) -> dict[Key, list[Reached]]:
    """What each of these episodes reached, of (artifact that holds it, id): one look-up for all, as `impact` says it of
    one."""
    if not held:
        return {}
    holders = [lake.ledger.get(holder) for holder in dict.fromkeys(holder for holder, _ in held)]
    rows = _rows(lake, {name for _, name in held}, holders)
    starts = {key: {key[0]: _taint_of(lake, key[0], {key})} for key in held}
    return {key: _pass(lake, start, rows, leave_out=_only_hold(start)) for key, start in starts.items()}


def that_reached(lake: Lake, ref: ArtifactRef, ids: Collection[str]) -> set[str]:
    """Those of these episodes that reached an artifact, or that it holds."""
    if not ids:
        return set()
    with Lookup(lake) as lookup:
        held = {artifact for (artifact,) in lookup.rows("episodes", ids, lake.ledger.artifacts(), ["artifact_id"])}
    rows = _rows(lake, set(ids), [lake.ledger.get(name) for name in held])
    closure = lake.ledger.closure(ref)
    found = set()
    for name in {name for _, name in rows.held}:
        start = _held(lake, rows, {name})
        last = closure[-1]
        if last.owner in start or any(
            item.ref is last for item in _pass(lake, start, rows, leave_out=set(), among=closure)
        ):
            found.add(name)
    return found


def _held(lake: Lake, rows: _Rows, ids: set[str]) -> dict[str, _Taint]:
    """The artifacts that hold these episodes, tainted by them."""
    keys: dict[str, set[Key]] = defaultdict(set)
    for holder, name in rows.held:
        if name in ids:
            keys[holder].add((holder, name))
    return {holder: _taint_of(lake, holder, own) for holder, own in keys.items()}


def _taint_of(lake: Lake, holder: str, keys: set[Key]) -> _Taint:
    """Of an artifact that holds these episodes. All of a policy, which learned from those that it made."""
    ref = lake.ledger.get(holder)
    whole = ref.kind == "policy"
    return _Taint(whole, set(keys), len(keys), via=f"learned from what {ref.name} holds" if whole else "")


def _only_hold(start: Mapping[str, _Taint]) -> set[str]:
    """The artifacts that hold the subject and are not reached by it."""
    return {holder for holder, taint in start.items() if not taint.whole}


class _Rows:
    """Every row of the lake that names one of the episodes in question, or one that goes back to them."""

    def __init__(self) -> None:
        self.held: list[Key] = []
        self.naming: dict[str, list[tuple[Key | None, str, Key]]] = defaultdict(list)
        """Artifact -> its rows: (the row's parent by key, or None where only the id is known, that id, own key)."""
        self.weighted: dict[str, set[Key]] = defaultdict(set)
        """Dataset -> its members that weigh more than nothing."""
        self.listed: dict[Key, set[str]] = defaultdict(set)
        """(child, parent) -> episodes read."""
        self.start: dict[str, str] = {}
        """Imagined episode -> the one it started from, of those in question and of what they go back to."""


def _rows(lake: Lake, ids: set[str], holders: Sequence[ArtifactRef]) -> _Rows:
    rows = _Rows()
    below = _downstream(lake, {ref.artifact_id for ref in holders})
    with Lookup(lake) as lookup:
        rows.held = [(ref.artifact_id, name) for ref in holders for name in ids]
        if len(ids) > 1:
            rows.held = lookup.rows("episodes", ids, holders, ["artifact_id", "episode_id"])
        names, rows.start = set(ids), _starts(lake, lookup, ids, holders)
        fresh = set(ids)
        while fresh:
            started = lookup.rows(
                "episodes", fresh, below, ["artifact_id", "episode_id", "start_episode_id"], column="start_episode_id"
            )
            for artifact, name, start in started:
                rows.naming[artifact].append((None, start, (artifact, name)))
            fresh = {name for _, name, _ in started} - names
            names |= fresh
            rows.start |= {name: start for _, name, start in started}
        for artifact, name, owner in lookup.rows("reward_scores", names, below, ["artifact_id", "episode_id", "owner"]):
            rows.naming[artifact].append(((owner, name) if owner else None, name, (owner or "", name)))
        for artifact, name, owner, weight in lookup.rows(
            "members", names, below, ["artifact_id", "episode_id", "owner", "weight"]
        ):
            rows.naming[artifact].append(((owner, name), name, (owner, name)))
            if weight > 0:
                rows.weighted[artifact].add((owner, name))
        for child, parent, name in lookup.rows("reads", names, below, ["artifact_id", "parent_id", "episode_id"]):
            rows.listed[child, parent].add(name)
    return rows


def _starts(lake: Lake, lookup: Lookup, ids: set[str], holders: Sequence[ArtifactRef]) -> dict[str, str]:
    """Episode -> the one it started from, for `ids` and everything they go back to: a quarantine of those is theirs."""
    found: dict[str, str] = {}
    among, fresh = holders, set(ids)
    while fresh:
        rows = dict(lookup.rows("episodes", fresh, among, ["episode_id", "start_episode_id"]))
        found |= {name: start for name, start in rows.items() if start}
        among, fresh = lake.ledger.artifacts(), {start for start in rows.values() if start} - found.keys()
    return found


def _downstream(lake: Lake, owners: set[str]) -> list[ArtifactRef]:
    """The artifacts that have one of `owners` somewhere above them: no other can be reached."""
    reached, found = set(owners), []
    for ref in lake.ledger.artifacts():
        if any(edge.parent in reached for edge in lake.ledger.edge_rows(ref.artifact_id)):
            reached.add(ref.owner)
            if not ref.source_artifact_id:
                found.append(ref)
    return found


def _pass(
    lake: Lake,
    taints: Mapping[str, _Taint],
    rows: _Rows,
    *,
    leave_out: set[str],
    among: Sequence[ArtifactRef] | None = None,
) -> list[Reached]:
    """Carries the taint through the ledger in commit order, or through the artifacts `among`, parents first."""
    refs = lake.ledger.artifacts() if among is None else among
    current = {(ref.asset, ref.partition): ref.artifact_id for ref in refs}
    start, taints = taints, dict(taints)
    found: list[Reached] = []
    lists: dict[str, dict[str, Any]] = {}
    for ref in refs:
        if ref.source_artifact_id and not lake.ledger.own_edges(ref.artifact_id):
            taint, via = taints.get(ref.owner), f"reuses {lake.ledger.get(ref.owner).name}"
        else:
            incoming = _incoming(lake, ref, taints, rows, lists)
            held = start.get(ref.owner)
            # What holds the subject may be reached by it as well.
            taints[ref.artifact_id] = incoming if incoming.whole or not held else held
            taint = taints[ref.artifact_id]
            via = taint.via if taint is incoming or taint.whole else f"reuses {lake.ledger.get(ref.owner).name}"
        if taint and ref.artifact_id not in leave_out:
            found.append(
                Reached(
                    ref,
                    "whole" if taint.whole else "rows",
                    ref.num_rows if taint.whole else taint.rows,
                    via,
                    current[ref.asset, ref.partition] == ref.artifact_id,
                )
            )
    return found


def _incoming(
    lake: Lake, ref: ArtifactRef, taints: Mapping[str, _Taint], rows: _Rows, lists: dict[str, dict[str, Any]]
) -> _Taint:
    """The taint of an artifact from those of its parents."""
    edges = lake.ledger.edge_rows(ref.artifact_id)
    coming = [(edge, taint) for edge in edges if (taint := _of(taints, edge))]
    if not coming:
        return _Taint()
    left_out = _left_out(lake, edges, rows, lists)
    hit: dict[Any, Key] = {}
    via, whole = "", _Taint(whole=True)
    for edge, taint in coming:
        said = f"{lake.ledger.get(edge.parent).name} as {edge.role}"
        keys = {key for key in taint.keys if key[1] not in left_out}
        if edge.role == CHOSEN_BY:
            if _decided(lake, edges, edge, taint):
                whole.roles.add(edge.role)
                whole.via = whole.via or said
        elif taint.whole or (edge.scope == "whole" and _read(edge, ref, keys, rows)):
            whole.roles.add(edge.role)
            whole.via = whole.via or said
        elif edge.scope == "rows":
            names = {name for _, name in keys}
            for index, (key, name, own) in enumerate(rows.naming[ref.owner]):
                if key in keys or (key is None and name in names):
                    hit[index] = own
                    via = via or said
            if ref.per_episode:  # a vector, or latents, for each episode of these parents
                hit |= {key: key for key in keys if key[0] == edge.parent}
                via = via or (said if hit else "")
    return whole if whole.roles else _Taint(keys=set(hit.values()), rows=len(hit), via=via)


def _of(taints: Mapping[str, _Taint], edge: Edge) -> _Taint | None:
    """The taint of what an edge leads to: of the pointer it was read as, where that one has edges of its own."""
    return taints[edge.read_as] if edge.read_as in taints else taints.get(edge.parent)


def _decided(lake: Lake, edges: Sequence[Edge], chosen_by: Edge, taint: _Taint) -> bool:
    """Whether a tainted state would have chosen another one of the models that were taken from it."""
    taken = {edge.parent for edge in edges if edge.role != CHOSEN_BY}
    models = {edge.role for edge in lake.ledger.edge_rows(chosen_by.parent) if edge.parent in taken}
    return not taint.roles or any(model_decided_by(role) in models for role in taint.roles)


def _read(edge: Edge, ref: ArtifactRef, keys: set[Key], rows: _Rows) -> bool:
    """Whether one of the tainted rows was among those that this edge read."""
    if edge.selection == "members":
        return bool(keys & rows.weighted[edge.selection_id])
    if edge.selection == "listed":
        return any(holder == edge.parent and name in rows.listed[ref.owner, edge.parent] for holder, name in keys)
    return bool(keys)


def _left_out(lake: Lake, edges: Sequence[Edge], rows: _Rows, lists: dict[str, dict[str, Any]]) -> set[str]:
    """Ids that the quarantine of that time kept out of the artifact."""
    found: set[str] = set()
    for edge in edges:
        if edge.role == quarantine.ROLE and lake.ledger.get(edge.parent).asset == quarantine.ASSET:
            listed = lists.setdefault(edge.parent, quarantine.quarantined(lake, lake.ledger.get(edge.parent)))
            found |= listed.keys()
    waiting = set(found)
    while waiting:
        waiting = {name for name, start in rows.start.items() if start in waiting} - found
        found |= waiting
    return found
