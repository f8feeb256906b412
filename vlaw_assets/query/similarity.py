"""Which episodes are like this one: search among the embeddings of committed artifacts.

What may be searched is as the ledger of the moment says; Lance searches, prefiltered, by the index where there is
one.

Rows are found in the newest version of the table, because that is where the index is, and count only if their artifact
is committed and current in the given lake; if the newest version has lost rows that the ledger names, the pinned,
tagged version is searched instead.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import disk, embeddings, labels, quarantine
from vlaw_assets.lake.contents import outcome as judged
from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.lake.picking import pick
from vlaw_assets.partitions import split_partition
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.episodes import Episode

ASSET = "episode_embeddings"
IDS_AT_ONCE = 200
SOURCES = {"real": ("rollout", "validation"), "imagined": ("imagined",)}
ASSETS = {"rollout": "real_rollouts", "imagined": "imagined_rollouts", "validation": "validation_rollouts"}
"""Purpose of an episode that is embedded -> the asset it belongs to."""


@dataclass(frozen=True)
class Neighbour:
    """An episode and how far it is from the one that was asked about."""

    episode_id: str
    distance: float
    """Cosine distance: 0 for the same direction, 1 for nothing in common."""
    task: str
    outcome: str
    """'success' or 'failure' by the label in force, else as the world said; 'not judged' for an imagined episode that
    nobody labelled (see p_success)."""
    source: str
    """'real' or 'imagined'."""
    partition: str
    """'experiment|iteration' it belongs to."""
    owner: str
    """The artifact that holds the episode."""
    p_success: float | None = None
    """P(yes) of the judge of its iteration, where it was scored."""


@dataclass(frozen=True)
class Found:
    """The answer to one question."""

    query: Neighbour
    neighbours: list[Neighbour]
    searched: int
    """Embeddings that could have been found, before task, outcome and source were asked for."""
    indexed: bool
    """Whether an index was used; without one every vector was compared."""
    left_out: int = 0
    """Embeddings of episodes in quarantine: they are nobody's neighbours."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Table:
    """One model's embeddings that this lake may see."""

    name: str
    features: str
    artifacts: dict[str, ArtifactRef] = field(default_factory=dict)
    """Id -> artifact that holds embeddings."""
    partitions: dict[str, list[str]] = field(default_factory=dict)
    """Id -> partitions of which it is the current version."""

    @property
    def rows(self) -> int:
        return sum(ref.versions["embeddings"]["rows"] for ref in self.artifacts.values())

    def narrowed(self, experiment: str | None) -> _Table:
        kept = {
            key: [name for name in names if experiment is None or split_partition(name)[0] == experiment]
            for key, names in self.partitions.items()
        }
        artifacts = {key: ref for key, ref in self.artifacts.items() if kept[key]}
        return _Table(self.name, self.features, artifacts, {key: kept[key] for key in artifacts})


def similar(
    lake: Lake,
    episode_id: str,
    *,
    k: int = 10,
    task: str | None = None,
    outcome: str | None = None,
    source: str | None = None,
    experiment: str | None = None,
    exact: bool = False,
) -> Found:
    """The `k` episodes nearest to one, nearest first, each once, itself left out.

    Args:
        task, outcome, source, experiment: only these; None for any. outcome is one of embeddings.OUTCOMES.
        exact: compare every vector, also where there is an index.

    Raises VlawError for an episode that does not exist or has no embedding (saying what to materialize), and for k < 1.
    """
    for name, value, known in (("outcome", outcome, embeddings.OUTCOMES), ("source", source, tuple(SOURCES))):
        if value is not None and value not in known:
            raise VlawError(
                f"there is no {name} {value!r}", where=f"--{name}", remedy=f"One of: {', '.join(known)}, any."
            )
    if k < 1:
        raise VlawError(f"{k} neighbours", where="-k", remedy="Ask for 1 or more.")
    tables = _tables(lake)
    table, row, vector = _embedded(lake, tables, episode_id)
    current = {(ref.asset, ref.partition): ref.owner for ref in lake.ledger.artifacts()}
    narrowed = table.narrowed(experiment)
    said = {name: judged(success) for name, success in labels.outcomes(lake).items()}
    clauses = []
    if task is not None:
        clauses.append(f"task = {embeddings.quoted(task)}")
    if outcome is not None:
        clauses.append(_with_outcome(outcome, said))
    if source is not None:
        clauses.append(f"purpose IN ({', '.join(map(embeddings.quoted, SOURCES[source]))})")
    without = quarantine.in_force(lake).keys()
    rows, indexed = (
        _search(lake, narrowed, vector, k, clauses, {episode_id, row["episode_id"], *without}, exact=exact)
        if narrowed.artifacts
        else ([], False)
    )
    left_out = _count(lake, narrowed, without - {row["episode_id"]}) if narrowed.artifacts else 0
    scores = _Scores(lake)
    query, *neighbours = (
        _neighbour(found | {"outcome": said.get(found["episode_id"], found["outcome"])}, of, current, scores)
        for found, of in ((row | {"_distance": 0.0}, table), *((found, narrowed) for found in rows))
    )
    return Found(
        query,
        neighbours,
        narrowed.rows - left_out,
        indexed,
        left_out,
    )


def episodes_of(lake: Lake, found: Found) -> list[Episode]:
    """The query and its neighbours with their frames; `extra` has "p_success" and "distance" for a contact sheet."""
    items = (found.query, *found.neighbours)
    picked = pick(lake, [(item.owner, item.episode_id) for item in items])
    episodes = []
    for item in items:
        episode = picked[item.owner, item.episode_id].episode
        if item.p_success is not None:
            episode.extra["p_success"] = item.p_success
        if item is not found.query:
            episode.extra["distance"] = item.distance
        episodes.append(episode)
    return episodes


def embedded(lake: Lake, ids: Collection[str]) -> set[str]:
    """Those of these episodes that `similar` can be asked about."""
    found: set[str] = set()
    for table in _tables(lake) if ids else ():
        where = f"{_named(ids)} AND {embeddings.among(table.artifacts)}"
        rows = _opened(lake, table).to_table(columns=["episode_id"], filter=where)
        found |= set(rows["episode_id"].to_pylist())
    return found


def _named(ids: Collection[str]) -> str:
    return f"episode_id IN ({', '.join(map(embeddings.quoted, sorted(ids)))})"


def _with_outcome(outcome: str, said: Mapping[str, str]) -> str:
    """Rows of this outcome, that of an episode on the list of labels by what people say."""
    embedded = f"outcome = {embeddings.quoted(outcome)}"
    if not said:
        return embedded
    other, same = ([name for name, of in said.items() if (of == outcome) is wanted] for wanted in (False, True))
    kept = f"{embedded} AND NOT {_named(other)}" if other else embedded
    return f"(({kept}) OR {_named(same)})" if same else f"({kept})"


def _tables(lake: Lake) -> list[_Table]:
    """What may be searched: embeddings that are current in some partition, by model and features."""
    current = {ref.partition: ref for ref in lake.ledger.artifacts() if ref.asset == ASSET}
    tables: dict[tuple[str, str], _Table] = {}
    for partition, ref in current.items():
        entry = ref.versions.get("embeddings")
        if entry is None:
            continue
        features = str(json.loads(ref.recipe_json).get("features", ""))
        table = tables.setdefault((entry["table"], features), _Table(entry["table"], features))
        table.artifacts[ref.owner] = ref
        table.partitions.setdefault(ref.owner, []).append(partition)
    return list(tables.values())


def _embedded(lake: Lake, tables: Sequence[_Table], episode_id: str) -> tuple[_Table, dict[str, Any], np.ndarray]:
    """The table that has the episode, or of a recording a copy of it, its row and its vector; of several, the one
    committed last."""
    import numpy as np

    found = _rows_of(lake, tables, [episode_id]) or _rows_of(lake, tables, _copies(lake, episode_id))
    if not found:
        raise _without_embedding(lake, episode_id)
    order = {ref.artifact_id: number for number, ref in enumerate(lake.ledger.artifacts())}
    table, row = max(found, key=lambda pair: order[pair[1]["artifact_id"]])
    return table, {name: row[name] for name in embeddings.TEXTS}, np.asarray(row["vector"], np.float32)


def _rows_of(lake: Lake, tables: Sequence[_Table], names: Collection[str]) -> list[tuple[_Table, dict[str, Any]]]:
    listed = ", ".join(map(embeddings.quoted, names))
    found = []
    for table in tables if names else ():
        where = f"episode_id IN ({listed}) AND {embeddings.among(table.artifacts)}"
        found += [(table, row) for row in _opened(lake, table).to_table(filter=where).to_pylist()]
    return found


def _copies(lake: Lake, episode_id: str) -> list[str]:
    """Ids of the episodes that are a copy of a recorded one: stages embed those, and not the recording."""
    columns = ["episode_id", "purpose"]
    with Lookup(lake) as lookup:
        rows = lookup.rows("episodes", [episode_id], lake.ledger.artifacts(), columns, column="start_episode_id")
    return [name for name, purpose in rows if purpose in ("rollout", "validation")]


def _search(
    lake: Lake,
    table: _Table,
    vector: np.ndarray,
    k: int,
    clauses: Sequence[str],
    without: Collection[str],
    *,
    exact: bool,
) -> tuple[list[dict[str, Any]], bool]:
    """Rows nearest to a vector, and whether by an index. An episode that several artifacts embedded is one episode."""
    opened = _opened(lake, table)
    indexed = bool(opened.describe_indices()) and not exact
    # Comparing every row's id costs more than the search itself: only where the table has rows of others.
    alone = opened.count_rows() == table.rows
    where = " AND ".join([*([] if alone else [embeddings.among(table.artifacts)]), *clauses])
    wanted = k + 1
    while True:
        try:
            rows = embeddings.nearest(opened, vector, where, wanted, indexed=indexed)
        except (OSError, ValueError, RuntimeError) as error:
            if not indexed or "_indices" not in str(error):
                raise VlawError(
                    f"the embeddings cannot be searched: {str(error)[:200]}",
                    where=str(lake.paths.embeddings),
                    remedy="Restore the table, or materialize episode_embeddings again with --force.",
                ) from error
            indexed = False  # files of the index are gone: slower, not wrong
            continue
        each = {(row["owner"], row["episode_id"]): row for row in reversed(rows) if row["episode_id"] not in without}
        if len(each) >= k or len(rows) < wanted:
            return sorted(each.values(), key=lambda row: (row["_distance"], row["episode_id"]))[:k], indexed
        wanted *= 2


def _count(lake: Lake, table: _Table, ids: Collection[str]) -> int:
    """How many embeddings of these episodes could be found."""
    opened, names = _opened(lake, table), sorted(ids)
    parts = [names[first : first + IDS_AT_ONCE] for first in range(0, len(names), IDS_AT_ONCE)]
    return sum(opened.count_rows(f"{embeddings.among(table.artifacts)} AND {_named(part)}") for part in parts)


def _opened(lake: Lake, table: _Table) -> Any:
    """The Lance dataset at its newest version, or at the newest pinned one where the newest lacks committed rows."""
    import lance

    where = lake.paths.embeddings / f"{table.name}.lance"
    try:
        opened = lance.dataset(str(where))
        count = opened.count_rows(embeddings.among(table.artifacts))
        if count != table.rows:
            pinned = max(ref.versions["embeddings"]["version"] for ref in table.artifacts.values())
            opened = lance.dataset(str(where), version=pinned)
            count = opened.count_rows(embeddings.among(table.artifacts))
    except (FileNotFoundError, ValueError, RuntimeError, OSError) as error:
        disk.refuse_if_out_of_files(error)
        raise VlawError(
            f"the table of embeddings cannot be opened: {str(error)[:200]}",
            where=str(where),
            remedy="Restore it, or materialize episode_embeddings again with --force.",
        ) from error
    if count != table.rows:
        raise VlawError(
            f"the table has {count} embeddings of committed artifacts, the ledger {table.rows}",
            where=str(where),
            remedy="Restore it, or materialize episode_embeddings again with --force.",
        )
    return opened


class _Scores:
    """P(yes) of imagined episodes, read once per partition."""

    def __init__(self, lake: Lake):
        self._lake = lake
        self._known: dict[str, dict[tuple[str, str], float]] = {}

    def of(self, partition: str, owner: str, episode_id: str) -> float | None:
        if partition not in self._known:
            ref = self._lake.ledger.current("reward_scores", partition)
            rows = self._lake.read(ref).table("reward_scores").to_pylist() if ref is not None else []
            self._known[partition] = {(row["owner"], row["episode_id"]): row["p_success"] for row in rows}
        return self._known[partition].get((owner, episode_id))


def _neighbour(row: dict[str, Any], table: _Table, current: dict[tuple[str, str], str], scores: _Scores) -> Neighbour:
    source = next(name for name, purposes in SOURCES.items() if row["purpose"] in purposes)
    # An artifact may be shared by experiments: name the partition that still has this very episode.
    asset = ASSETS[row["purpose"]]
    partitions = table.partitions[row["artifact_id"]]
    partition = next((name for name in partitions if current.get((asset, name)) == row["owner"]), partitions[0])
    return Neighbour(
        row["episode_id"],
        float(row["_distance"]),
        row["task"],
        row["outcome"],
        source,
        partition,
        row["owner"],
        scores.of(partition, row["owner"], row["episode_id"]),
    )


def _without_embedding(lake: Lake, episode_id: str) -> VlawError:
    """Why an episode has no embedding: unknown, not yet embedded, or of a kind that never is."""
    import pyarrow.compute as pc

    for ref in reversed(lake.ledger.artifacts()):
        if "episodes" not in ref.versions:
            continue
        episodes = lake.read(ref).table("episodes")
        if not pc.any(pc.equal(episodes["episode_id"], episode_id)).as_py():
            continue
        now = lake.ledger.current(ref.asset, ref.partition)
        if now is not None and now.owner != ref.owner:
            return VlawError(
                f"episode {episode_id} is of a version of {ref.name} that has been replaced",
                where=str(lake.paths.root),
                remedy=f"Look at the lake before that: --as-of {ref.artifact_id}",
            )
        if ref.asset in ASSETS.values():
            experiment, iteration = split_partition(ref.partition)
            return VlawError(
                f"episode {episode_id} of {ref.name} has no embedding",
                where=str(lake.paths.root),
                remedy=f"Materialize {ASSET}, partition '{ref.partition}': "
                f"vlaw run --experiment {experiment} --iterations {iteration} --only {ASSET}",
            )
        return VlawError(
            f"episodes of {ref.asset} are not embedded",
            where=f"episode {episode_id} of {ref.name}",
            remedy="Ask about a real, validation or imagined rollout; of a recording the copies that an iteration "
            "takes are embedded ([rollouts] source = 'recorded:NAME' in its recipe).",
        )
    return VlawError(
        f"there is no episode {episode_id!r}",
        where=str(lake.paths.root),
        remedy='List episodes: vlaw sql "select episode_id, task, purpose, success from episodes limit 20"',
    )
