"""Which episodes a page shows: named by id, found by SQL, or those of an artifact."""

from __future__ import annotations

import os
import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.lookup import connected, source
from vlaw_assets.lake.picking import Key, newest_holders
from vlaw_assets.reports.episodes.command import LIMIT, watch_command
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

    from vlaw_assets.lake import ArtifactRef, Lake

BATCH = 1024
"""Rows of a result that are looked at together."""
DRAW = 0
"""The seed by which episodes are chosen among more than fit."""
SHOWN_BY = {
    "policy": ("policy", "evaluation"),
    "world_model": ("world_model", "world_model_metrics"),
    "reward_model": ("reward_model", "reward_scores"),
}
"""Kind of a model -> the role in which, and the kind of artifact by which, it was read that shows what it does."""


@dataclass(frozen=True)
class Choice:
    """Episodes in the order to show, and what they are."""

    title: str
    about: str
    """One sentence."""
    keys: tuple[Key, ...]
    total: int
    """How many there are; more than `keys` where the page is cut."""
    command: str
    """What gives this page again."""
    members: ArtifactRef | None = None
    """The training set that they are the members of."""

    @property
    def cut(self) -> str:
        """What a reader of a page that is cut has to know; '' where it is whole."""
        if self.total <= len(self.keys):
            return ""
        return f"{len(self.keys)} of {self.total} episodes are shown; --limit {self.total} shows all."


def of_ids(lake: Lake, ids: Sequence[str], limit: int = LIMIT) -> Choice:
    """Episodes by id; of several artifacts that hold one, the one committed last. VlawError for an unknown id."""
    unique = list(dict.fromkeys(ids))
    holders = newest_holders(lake, unique[:limit])
    keys = tuple((holders[name][0], name) for name in unique[:limit])
    title = unique[0] if len(unique) == 1 else f"{len(unique)} episodes"
    return Choice(title, "Episodes named by their ids.", keys, len(unique), shlex.join(["vlaw", "watch", *unique]))


def of_sql(
    lake: Lake,
    sql: str,
    parameters: Mapping[str, str] | None = None,
    limit: int = LIMIT,
    *,
    name: str = "",
    question: str = "",
) -> Choice:
    """The episodes that a statement finds in its column `episode_id`, in its order, each once.

    Of several artifacts that hold one, the one that a column `owner` or `artifact_id` names, else the one committed
    last. VlawError as `vlaw sql` raises it, and for a result without that column or without rows.

    Args:
        name, question: what a statement that has a name is called, and asks in words.
    """
    import pyarrow.compute as pc

    from vlaw_assets.query import connect

    with connect(lake, lazy=True) as connection:
        table = connection.table(sql, parameters)
    columns = table.column_names
    if columns.count("episode_id") != 1 or str(table.schema.field("episode_id").type) != "string":
        raise VlawError(
            f"the statement gives no column of texts episode_id, but {', '.join(columns)}",
            where="vlaw watch",
            remedy="Select it: vlaw watch \"select episode_id from episodes where event = 'toppled'\"",
        )
    named = table.select([column for column in ("episode_id", "owner", "artifact_id") if columns.count(column) == 1])
    named = named.filter(pc.is_valid(named["episode_id"]))
    rows = _first_rows(named, limit)
    if not rows:
        raise VlawError("the statement finds no episode", where="vlaw watch", remedy="Widen it, or try it: vlaw sql")
    holders = newest_holders(lake, list(rows))
    keys = tuple((_named(holders[episode], row), episode) for episode, row in rows.items())
    given = [word for key, value in (parameters or {}).items() for word in ("-p", f"{key}={value}")]
    return Choice(
        question or "Episodes found by SQL",
        f"Found by the question {name}." if name else sql.strip(),
        keys,
        int(pc.count_distinct(named["episode_id"]).as_py()),
        shlex.join(["vlaw", "watch", name or sql.strip(), *given]),
    )


def _first_rows(table: pa.Table, limit: int) -> dict[str, dict[str, str]]:
    """Episode -> its first row without the id, of the first `limit` episodes: a result may have a million rows."""
    found: dict[str, dict[str, str]] = {}
    for batch in table.to_batches(max_chunksize=BATCH):
        for row in batch.to_pylist():
            found.setdefault(row.pop("episode_id"), row)
            if len(found) == limit:
                return found
    return found


def _named(holders: Sequence[str], row: Mapping[str, Any]) -> str:
    """The one of these artifacts that the other columns of a row name, else the first."""
    return next((holder for holder in holders if holder in row.values()), holders[0])


def of_artifact(lake: Lake, ref: ArtifactRef, limit: int = LIMIT) -> Choice:
    """The episodes that an artifact holds, or names as members or by scores; of a model, those that show what it does.

    A choice by chance, always the same, where there are more than `limit`. VlawError for an artifact that has none.
    """
    shown = shown_by(lake, ref)
    if shown is None:
        raise VlawError(
            f"{ref.name} has no episodes to watch",
            where="vlaw watch",
            remedy="Name a policy, a world model, rollouts, a training set or scores: "
            'vlaw sql "select distinct asset, partition_key from episodes" lists what holds episodes.',
        )
    if "episodes" in shown.versions:
        # Its own rows alone: however many an artifact holds, columns of one file are read.
        names = _column_rows(lake, shown, "episodes", ("episode_id",), "episode_index")
        keys = [(shown.owner, name) for (name,) in names]
        what = f"episodes of {shown.name}"
    else:
        table = "members" if "members" in shown.versions else "reward_scores"
        found = _column_rows(lake, shown, table, ("owner", "episode_id"), "position")
        found = list(dict.fromkeys(found))
        keys = [(owner, name) for owner, name in found if owner]
        if len(keys) < len(found):
            unnamed = [name for owner, name in found if not owner]
            keys += [(holders[0], name) for name, holders in newest_holders(lake, unnamed).items()]
        what = f"{'members' if table == 'members' else 'scored episodes'} of {shown.name}"
    if not keys:
        raise VlawError(f"{shown.name} holds no episodes", where="vlaw watch", remedy="Watch another artifact.")
    chosen = _some(keys, limit)
    about = f"The {len(keys)} {what}" + (f", which show what {ref.name} does." if shown is not ref else ".")
    if len(chosen) < len(keys):
        about += " Those shown are a random choice, always the same one."
    command = watch_command(ref) or f"vlaw watch {ref.artifact_id}"
    members = shown if "members" in shown.versions else None
    return Choice(ref.name, about, tuple(chosen), len(keys), command, members)


def shown_by(lake: Lake, ref: ArtifactRef) -> ArtifactRef | None:
    """The artifact whose episodes are meant: itself, or of a model the newest that shows what it does; None for
    none."""
    if {"episodes", "members", "reward_scores"} & lake.ledger.get(ref.owner).versions.keys():
        return lake.ledger.get(ref.owner) if ref.source_artifact_id else ref
    role, kind = SHOWN_BY.get(ref.kind, ("", ""))
    readers = [
        other
        for other in lake.ledger.artifacts()
        if other.kind == kind
        and not other.source_artifact_id
        and {"episodes", "reward_scores"} & other.versions.keys()
        and any(edge.role == role and edge.parent == ref.owner for edge in lake.ledger.edge_rows(other.artifact_id))
    ]
    if ref.kind == "policy" and not readers:
        readers = [other for other in lake.ledger.artifacts() if _evaluates(lake, other, ref)]
    own = [other for other in readers if other.partition == ref.partition]
    found = own or readers
    return found[-1] if found else None


def _evaluates(lake: Lake, other: ArtifactRef, policy: ArtifactRef) -> bool:
    """Whether an evaluation is of recorded trials of this policy, which nobody had to read for it."""
    if other.kind != SHOWN_BY["policy"][1] or other.source_artifact_id or "episodes" not in other.versions:
        return False
    rows = _column_rows(lake, other, "episodes", ("policy",), "episode_index")
    return any(digest == policy.content_digest for (digest,) in rows)


def _column_rows(lake: Lake, ref: ArtifactRef, table: str, columns: Sequence[str], order: str) -> list[tuple[Any, ...]]:
    with connected(os.getpid()) as connection:
        rows = source(lake, table, [lake.ledger.get(ref.owner)], [*columns, order])
        return connection.execute(f"SELECT {', '.join(columns)} FROM ({rows}) ORDER BY {order}").fetchall()


def _some(keys: Sequence[Key], limit: int) -> list[Key]:
    """At most `limit` of them, in their order. By chance: episodes lie in an order of tasks and starts."""
    if len(keys) <= limit:
        return list(keys)
    drawn = random.Random(DRAW).sample(range(len(keys)), limit)
    return [keys[place] for place in sorted(drawn)]
