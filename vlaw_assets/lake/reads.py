"""Which episodes an artifact read, and with what weight it learned from them: one rule, in one SQL statement.

Over each edge, the parent's episodes, of these the selection, without those that the quarantine of that time left out:

- scope 'whole', selection 'all': every one; 'members': those that weigh more than nothing in the dataset
  `selection_id`;
  'listed': those in `reads`;
- scope 'rows': those that the child's own rows name, as member, as scored or as start; of embeddings and of latents
  every one;
- the edges to the lists of quarantined episodes and of labels and to the state that chose the models read no episodes.

What read a training set and holds episodes is a policy that made them while it learned, and learned from them: it read
each, in the role 'practice'.

`success` is what the child read: by the labels it was made with, else as it was `recorded`; none of an episode that is
for world models alone.

`weight` is the episode's in a dataset that the child read too (0 where it is no member of it), else 1; `source` is what
that dataset calls it, else ''. `sql/`, the audit, its page, `diff` and provenance all ask this statement; `impact`
follows single rows by the same rule.

Here it is asked of the Parquet files that the ledger names; query/views.py makes the SQL view over the whole lake of
the same text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.decisions import IN_SQL
from vlaw_assets.lake.lookup import connected, source

if TYPE_CHECKING:
    import pyarrow as pa

    from vlaw_assets.lake import ArtifactRef, Lake

_STATEMENT = """
WITH RECURSIVE
left_out(child_id, episode_id) AS (
  SELECT e.child_id, q.episode_id FROM {edges} e JOIN quarantine q ON q.artifact_id = e.parent_id
  WHERE e.role = 'quarantine'
  UNION
  SELECT l.child_id, i.episode_id FROM left_out l JOIN episodes i ON i.start_episode_id = l.episode_id
),
said(child_id, episode_id, success, decision) AS (
  SELECT e.child_id, l.episode_id,
    arg_max(l.label, l.position) FILTER (l.label NOT IN ('keep', 'world_model_only')) = 'success',
    arg_max(l.label, l.position) FILTER (l.label IN ('keep', 'world_model_only'))
  FROM {edges} e JOIN labels l ON l.artifact_id = e.parent_id WHERE e.role = 'labels' GROUP BY e.child_id, l.episode_id
),
-- the roles that read no episodes
reading AS (SELECT * FROM {edges} WHERE role NOT IN ('quarantine', 'labels', 'state')),
datasets AS (
  SELECT DISTINCT e.child_id, m.artifact_id AS dataset
  FROM (SELECT DISTINCT artifact_id FROM members) m JOIN reading e ON e.parent_id = m.artifact_id
),
picked AS (
  SELECT e.child_id, e.parent_id, e.role, m.episode_id
  FROM reading e JOIN members m ON m.artifact_id = e.selection_id AND m.owner = e.parent_id
  WHERE e.scope = 'whole' AND e.selection = 'members' AND m.weight > 0
  UNION
  SELECT e.child_id, e.parent_id, e.role, r.episode_id
  FROM reading e JOIN reads r ON r.artifact_id = e.child_id AND r.parent_id = e.parent_id
  WHERE e.scope = 'whole' AND e.selection = 'listed'
  UNION
  SELECT e.child_id, e.parent_id, e.role, m.episode_id
  FROM reading e JOIN members m ON m.artifact_id = e.child_id AND m.owner = e.parent_id WHERE e.scope = 'rows'
  UNION
  SELECT e.child_id, e.parent_id, e.role, s.episode_id
  FROM reading e JOIN reward_scores s ON s.artifact_id = e.child_id AND coalesce(s.owner, e.parent_id) = e.parent_id
  WHERE e.scope = 'rows'
  UNION
  SELECT e.child_id, e.parent_id, e.role, i.start_episode_id
  FROM reading e JOIN episodes i ON i.artifact_id = e.child_id WHERE e.scope = 'rows' AND i.start_episode_id IS NOT NULL
),
whole AS (
  SELECT child_id, parent_id, role FROM reading
  WHERE scope = 'whole' AND selection = 'all' OR scope = 'rows' AND child_id IN (SELECT artifact_id FROM embedders)
),
taken AS (
  SELECT w.child_id, w.parent_id, w.role, p.episode_id, p.purpose, p.task, p.recorded, {withheld} AS withheld,
    p.num_steps, p.content_digest
  FROM whole w JOIN episodes p ON p.artifact_id = w.parent_id
  UNION ALL
  SELECT k.child_id, k.parent_id, k.role, p.episode_id, p.purpose, p.task, p.recorded, {withheld} AS withheld,
    p.num_steps, p.content_digest
  FROM picked k JOIN episodes p ON p.artifact_id = k.parent_id AND p.episode_id = k.episode_id
  UNION ALL
  SELECT p.artifact_id, p.artifact_id, 'practice', p.episode_id, p.purpose, p.task, p.recorded, {withheld} AS withheld,
    p.num_steps, p.content_digest
  FROM episodes p WHERE p.artifact_id IN (SELECT child_id FROM {edges} WHERE role = 'training_set')
)
SELECT
  t.* EXCLUDE (recorded, withheld, num_steps, content_digest),
  CASE WHEN coalesce(y.decision = 'world_model_only', t.withheld) THEN NULL ELSE coalesce(y.success, t.recorded) END
    AS success,
  t.num_steps, t.content_digest, t.recorded, coalesce(m.source, '') AS source,
  coalesce(m.weight, if(d.child_id IS NULL OR t.role = 'practice', 1.0, 0.0)) AS weight
FROM taken t
LEFT JOIN said y ON y.child_id = t.child_id AND y.episode_id = t.episode_id
LEFT JOIN (SELECT DISTINCT child_id FROM datasets) d ON d.child_id = t.child_id
LEFT JOIN (
  SELECT d.child_id, m.owner, m.episode_id, any_value(m.source) AS source, max(m.weight) AS weight
  FROM datasets d JOIN members m ON m.artifact_id = d.dataset GROUP BY ALL
) m ON m.child_id = t.child_id AND m.owner = t.parent_id AND m.episode_id = t.episode_id
WHERE NOT EXISTS (FROM left_out x WHERE x.child_id = t.child_id AND x.episode_id = t.episode_id)
"""

_COLUMNS = {
    "episodes": (
        "artifact_id",
        "episode_id",
        "start_episode_id",
        "purpose",
        "task",
        "success",
        "extra_json",
        "num_steps",
        "content_digest",
    ),
    "members": ("artifact_id", "owner", "episode_id", "weight", "source"),
    "reads": ("artifact_id", "parent_id", "episode_id"),
    "reward_scores": ("artifact_id", "owner", "episode_id"),
    "quarantine": ("artifact_id", "episode_id"),
    "labels": ("artifact_id", "episode_id", "label", "position"),
}
"""What the statement needs of each table."""
_COUNTED = """
SELECT child_id, parent_id, role, source, purpose, task,
  CASE WHEN success THEN 'success' WHEN success IS NULL THEN 'not judged' ELSE 'failure' END AS outcome,
  CASE WHEN recorded THEN 'success' WHEN recorded IS NULL THEN 'not judged' ELSE 'failure' END AS recorded,
  weight, count(*) AS count, sum(num_steps)::BIGINT AS steps
FROM found GROUP BY ALL ORDER BY ALL
"""


def statement(edges: str) -> str:
    """The SELECT over a relation `edges` (child_id, parent_id, role, scope, selection, selection_id) of artifacts that
    hold their own data, and over episodes (with `recorded`, the success that they were recorded with), members, reads,
    reward_scores, quarantine, labels and embedders (artifacts that hold vectors or latents of what they read by rows).

    Columns: child_id, parent_id, role, episode_id, purpose, task, success, num_steps, content_digest, recorded, source,
    weight.
    """
    return _STATEMENT.format(edges=edges, withheld=IN_SQL)


def rows_read(
    lake: Lake, children: Iterable[ArtifactRef], question: str = "SELECT * FROM found"
) -> list[dict[str, Any]]:
    """What `question` (SQL) says of the rows that these artifacts read, which it calls `found` (see `statement`).

    Children are owners of data. Raises VlawError where a file that the ledger names is gone, changed or unreadable.
    """
    refs = list({ref.artifact_id: ref for ref in children}.values())
    edges = [(ref.artifact_id, edge) for ref in refs for edge in lake.ledger.edge_rows(ref.artifact_id)]
    return _ask(lake, question, edges, refs, {})


def counts(lake: Lake, ref: ArtifactRef) -> list[dict[str, Any]]:
    """What one artifact read, counted: {parent, role, source, purpose, task, outcome, weight, count, steps}, and
    `recorded`, the outcome that was recorded, where it is another one."""
    return _plain(rows_read(lake, [ref], _COUNTED))


def counts_at_commit(
    lake: Lake, artifact_id: str, tables: Mapping[str, pa.Table], *, per_episode: bool
) -> list[dict[str, Any]]:
    """The same of an artifact whose ledger row is about to be written: `tables` are its rows, edges and reads among
    them."""
    edges = tables["edges"].to_pylist() if "edges" in tables else []
    return _plain(
        _ask(
            lake,
            _COUNTED,
            [(artifact_id, _Row(row)) for row in edges],
            [],
            tables,
            per_episode=[artifact_id] * per_episode,
        )
    )


def holds_episodes(lake: Lake, parents: Iterable[str]) -> bool:
    """Whether one of these artifacts holds episodes, so that there is something to read."""
    return any("episodes" in lake.ledger.get(parent).versions for parent in parents)


class _Row:
    """An edge as a row of the table `edges` has it."""

    def __init__(self, row: Mapping[str, Any]):
        self.parent, self.role, self.scope = row["parent_id"], row["role"], row["scope"]
        self.selection, self.selection_id = row["selection"], row["selection_id"]


def _ask(
    lake: Lake,
    question: str,
    edges: list[tuple[str, Any]],
    children: list[ArtifactRef],
    own: Mapping[str, pa.Table],
    *,
    per_episode: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Asks over the files that can matter to these edges: of parents, datasets and children; `own` are rows not written
    yet."""
    import pyarrow as pa

    get = lake.ledger.get
    parents = {edge.parent: get(edge.parent) for _, edge in edges}
    datasets = {edge.selection_id: get(edge.selection_id) for _, edge in edges if edge.selection_id}
    near = list({ref.artifact_id: ref for ref in (*parents.values(), *datasets.values(), *children)}.values())
    # What was imagined from a quarantined episode goes with it, wherever it lies.
    quarantined = any("quarantine" in ref.versions for ref in near)
    with connected(os.getpid()) as connection:
        connection.register(
            "edges",
            pa.table(
                {
                    "child_id": pa.array([child for child, _ in edges], pa.string()),
                    "parent_id": pa.array([edge.parent for _, edge in edges], pa.string()),
                    **{
                        name: pa.array([getattr(edge, name) for _, edge in edges], pa.string())
                        for name in ("role", "scope", "selection", "selection_id")
                    },
                }
            ),
        )
        embedders = [*per_episode, *(ref.artifact_id for ref in children if ref.per_episode)]
        connection.register("embedders", pa.table({"artifact_id": pa.array(embedders, pa.string())}))
        for table, columns in _COLUMNS.items():
            among = lake.ledger.artifacts() if quarantined and table == "episodes" else near
            select = source(lake, table, among, columns)
            if table in own:
                connection.register(f"own_{table}", own[table].select(list(columns)))
                select += f" UNION ALL SELECT {', '.join(columns)} FROM own_{table}"
            if table == "episodes":
                select = f"SELECT *, success AS recorded FROM ({select})"
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {select}")
        answer = connection.execute(f"WITH found AS ({statement('edges')}) {question}")
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts as they are kept: without the child, whose they are."""
    return [
        {
            "parent": row["parent_id"],
            **{
                key: value
                for key, value in row.items()
                if key not in ("child_id", "parent_id") and (key != "recorded" or value != row["outcome"])
            },
        }
        for row in rows
    ]
