"""SQL views of a lake: for every table exactly the files that ledger rows name, read by DuckDB itself.

The locked connection (__init__.py, worker.py) and a catalogue file (catalogue.py) both use this, so they show the same
rows. Rows of killed runs are in no view: a view reads the files of ledger rows, not a Delta table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vlaw_assets.lake import decisions, labels, quarantine, read_format
from vlaw_assets.lake.artifact import PER_EPISODE
from vlaw_assets.lake.reads import statement
from vlaw_assets.lake.schemas import ARTIFACTS, LABELS, NEW, PARTITIONED, TABLES
from vlaw_assets.query.reach import REACHED_BY
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import duckdb

    from vlaw_assets.lake import ArtifactRef, Lake

DATA_TABLES = tuple(sorted(set(TABLES) - {"artifacts", "edges"}))
COPIED = frozenset({"artifacts", "edges", "in_quarantine", "labels_in_force", "decisions_in_force"})
"""Names of `tables`."""

_COLUMNS = frozenset(name for schema in TABLES.values() for name in schema.names)
_EDGE = ("child_id", "parent_id", "role", "read_as", "scope", "selection", "selection_id")
_WORD = re.compile(r"\w+")
HIVE = "hive_partitioning = true, hive_types = {'asset': VARCHAR, 'partition_key': VARCHAR}"
"""Delta keeps partition columns in folder names; DuckDB would guess their types."""

_FRAMES = """
SELECT e.artifact_id, e.episode_id, step::INTEGER AS step, camera, {path} AS lance_path, a.lance_version,
  -- As lake/frames.py writes them: what was imagined is JPEG, but for the real frame it starts from.
  CASE WHEN e.purpose = 'imagined' AND step > 0 THEN 'jpeg' ELSE 'png' END AS format
FROM episodes e
JOIN (
  SELECT artifact_id, (versions_json ->> '$.frames.version')::BIGINT AS lance_version
  FROM artifacts WHERE source_artifact_id = ''
) a USING (artifact_id),
  unnest(range(e.num_steps + 1 - e.num_frames, e.num_steps + 1)) AS s(step),
  unnest(e.cameras) AS c(camera)
WHERE e.num_frames > 0
"""
"""One row per stored image, without its pixels: `lance.dataset(lance_path, version=lance_version)` holds them."""

_EMBEDDERS = " UNION ".join(
    f"SELECT artifact_id FROM artifacts WHERE source_artifact_id = '' AND (versions_json -> '$.{kind}') IS NOT NULL"
    for kind in PER_EPISODE
)
"""Artifacts that hold something of every episode of what they read by rows."""

_STUDY_ARTIFACTS = """
SELECT a.*, s.study, regexp_extract(arm, '^(.+)-s[0-9]+$', 1) AS recipe,
  regexp_extract(arm, '-s([0-9]+)$', 1)::INTEGER AS seed
FROM artifacts a
JOIN (SELECT DISTINCT experiment AS study FROM artifacts WHERE asset = 'study') s
  ON starts_with(a.experiment, s.study || '-'),
  (SELECT substr(a.experiment, length(s.study) + 2) AS arm)
WHERE regexp_full_match(arm, '.+-s[0-9]+')
QUALIFY length(s.study) = max(length(s.study)) OVER (PARTITION BY a.sequence)
"""
"""The artifacts of every study, whose experiments are called STUDY-RECIPE-sSEED. Of studies 'a' and 'a-b', 'a-b-c-s0'
is of 'a-b'."""


_EPISODES = """
SELECT e.* REPLACE (CASE WHEN coalesce(d.label = 'world_model_only', {withheld}) THEN NULL
    ELSE coalesce(l.label = 'success', e.success) END AS success),
  e.success AS recorded, l.label,
  e.episode_id IN (SELECT episode_id FROM in_quarantine) AS quarantined,
  CASE WHEN e.episode_id IN (SELECT episode_id FROM in_quarantine) THEN 'excluded'
    WHEN coalesce(d.label = 'world_model_only', {withheld}) THEN 'world_model_only'
    WHEN e.label_source = 'recorded' AND coalesce(l.label = 'success', e.success) IS NULL THEN 'world_model_only'
    ELSE 'keep' END AS decision
FROM ({select}) e
LEFT JOIN labels_in_force l ON l.episode_id = e.episode_id
LEFT JOIN decisions_in_force d ON d.episode_id = e.episode_id
"""
"""Columns of `episodes`: `success` by the label in force, else as it was `recorded`, NULL where the episode is for
world models alone; the label, NULL where nobody gave one; whether it is in quarantine now, or was imagined from one
that is, which whoever counts leaves out; and its `decision`, what it is used for."""

_EVALUATIONS = """
SELECT v.*, coalesce(q.trials, 0) AS quarantined_trials, coalesce(q.corrected, 0) AS corrected_trials
FROM ({select}) v
LEFT JOIN (
  SELECT artifact_id, coalesce(task, 'all') AS task, count(*) FILTER (WHERE quarantined) AS trials,
    count(*) FILTER (WHERE success IS DISTINCT FROM recorded) AS corrected
  FROM episodes WHERE quarantined OR success IS DISTINCT FROM recorded
  GROUP BY GROUPING SETS ((artifact_id, task), (artifact_id))
) q ON q.artifact_id = v.artifact_id AND q.task = v.task
"""
"""Columns of `evaluations`: how many of the episodes that a row was counted over are in quarantine now, and of how many
people say otherwise now."""

_LABEL_HISTORY = """
SELECT l.episode_id, l.label, l.who, l.why, l."at", l.position,
  l.position = max(l.position) OVER (PARTITION BY l.episode_id, l.label IN ('keep', 'world_model_only')) AS in_force
FROM labels l JOIN artifacts a ON a.owner_id = l.artifact_id AND a.is_current
"""
"""Every label that was ever given, and every decision on use, once (`labels` has the whole list in each of its
versions)."""

_THRESHOLDS = """
SELECT experiment, iteration, max((recipe_json ->> '$.score.alpha')::DOUBLE) AS alpha
FROM artifacts WHERE is_current AND asset = 'training_set' GROUP BY experiment, iteration
"""
"""Above which score an iteration keeps imagined episodes, one row per iteration that has a training set."""

PLAIN = {"study_artifacts": _STUDY_ARTIFACTS, "thresholds": _THRESHOLDS}
"""Views over `artifacts` alone."""

_MADE_EDGES = "SELECT e.* FROM edges e JOIN artifacts a ON a.artifact_id = e.child_id WHERE a.source_artifact_id = ''"
"""The edges of artifacts that hold their own data."""

_READS = f"""
WITH made AS ({statement("made_edges")})
SELECT * FROM made
UNION ALL  -- a pointer read what its owner read
SELECT a.artifact_id, r.* EXCLUDE (child_id) FROM artifacts a JOIN made r ON r.child_id = a.source_artifact_id
"""
"""Which episodes each artifact read, one row per edge and episode (lake/reads.py): what `vlaw audit` counts."""


@dataclass(frozen=True)
class Source:
    """One Parquet file of a view."""

    path: str
    """Absolute."""
    file: Mapping[str, Any] = field(repr=False)
    """As the ledger has it: {path, size, sha256}."""
    ref: ArtifactRef = field(repr=False)


def sources(lake: Lake, refs: Sequence[ArtifactRef]) -> dict[str, list[Source]]:
    """The files behind every data table, in commit order. A pointer's rows are its owner's: they are listed once.

    Raises VlawError as `check_folder` does.
    """
    check_folder(lake)
    root, found = lake.paths.root, dict[str, list[Source]]((name, []) for name in DATA_TABLES)
    for ref in refs:
        if ref.source_artifact_id:
            continue
        for name, files in found.items():
            for file in (ref.versions.get(name) or {"files": ()})["files"]:
                files.append(Source(f"{root}/{file['path']}", file, ref))
    return found


def check_folder(lake: Lake) -> None:
    """Raises VlawError for a lake below a folder that is named like a column and its value."""
    for part in lake.paths.root.parts:
        if "=" in part and part.partition("=")[0].lower() in _COLUMNS:
            raise VlawError(
                f"the lake lies in a folder {part!r}, which DuckDB takes for the value of a column",
                where=str(lake.paths.root),
                remedy="rename that folder",
            )


def make(
    connection: duckdb.DuckDBPyConnection, lake: Lake, refs: Sequence[ArtifactRef], files: Mapping[str, list[Source]]
) -> None:
    """The tables and views, on a connection of one's own."""
    for name, rows in tables(lake, refs).items():
        make_table(connection, name, rows())
    for definition in definitions(lake, files).values():
        connection.execute(definition)


def tables(lake: Lake, refs: Sequence[ArtifactRef]) -> dict[str, Callable[[], pa.Table]]:
    """What is copied instead of read from files, and how it is made: the ledger, what is in quarantine, and labels.

    `artifacts.owner_id` is the artifact whose rows hold the data: join data tables on it, and reuse is followed.
    """
    return {
        "artifacts": lambda: artifacts_table(refs),
        "edges": lambda: edges_table(lake, refs),
        "in_quarantine": lambda: quarantine_table(lake),
        "labels_in_force": lambda: labels_table(labels.in_force(lake)),
        "decisions_in_force": lambda: labels_table(labels.decisions(lake)),
    }


def definitions(lake: Lake, files: Mapping[str, Sequence[Source]]) -> dict[str, str]:
    """Name -> the statement that makes it, in an order in which they can be made: a view per data table, `frames`,
    `episode_reads`, `label_history`, `study_artifacts` and `thresholds`, the macro `reached_by`, and what these are
    made of."""
    selects = {
        name: select(name, [source.path for source in listed], lacking(lake, name)) for name, listed in files.items()
    }
    for name, around in (("episodes", _EPISODES), ("evaluations", _EVALUATIONS)):
        selects[name] = around.format(select=selects[name], withheld=decisions.IN_SQL)
    selects |= {
        "embedders": _EMBEDDERS,
        "made_edges": _MADE_EDGES,
        "episode_reads": _READS,
        "label_history": _LABEL_HISTORY,
        **PLAIN,
        "frames": _FRAMES.format(path=quoted(str(lake.paths.frames))),
    }
    return {name: f"CREATE VIEW {name} AS {select}" for name, select in selects.items()} | {"reached_by": REACHED_BY}


def uses(definition: str) -> frozenset[str]:
    """Names that the definition of a view may stand on: all words in it."""
    return frozenset(_WORD.findall(definition))


def make_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A table of DuckDB's own with these rows; no Arrow object stays behind it."""
    connection.register("given", rows)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
    connection.unregister("given")


def artifacts_table(refs: Sequence[ArtifactRef]) -> pa.Table:
    """The ledger in commit order, with `sequence`, `owner_id` and `is_current`."""
    newest = {(ref.asset, ref.partition): ref.artifact_id for ref in refs}
    rows = [ref.to_row() for ref in refs]
    columns = {
        "sequence": pa.array(range(len(refs)), pa.int64()),
        "owner_id": pa.array([ref.owner for ref in refs], pa.string()),
        "is_current": pa.array([newest[ref.asset, ref.partition] == ref.artifact_id for ref in refs], pa.bool_()),
    }
    return pa.table(
        columns | {field.name: pa.array([row[field.name] for row in rows], field.type) for field in ARTIFACTS}
    )


def edges_table(lake: Lake, refs: Sequence[ArtifactRef]) -> pa.Table:
    """Who was made from whom: child_id, parent_id, role, read_as, scope, selection, selection_id.

    A pointer has lines where it does not stand as its owner does; otherwise its owner's are its own.
    """
    rows = [
        {"child_id": ref.artifact_id, "parent_id": edge.parent} | {name: getattr(edge, name) for name in _EDGE[2:]}
        for ref in refs
        for edge in lake.ledger.own_edges(ref.artifact_id)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in _EDGE]))


def quarantine_table(lake: Lake) -> pa.Table:
    """Every episode that is in quarantine at the lake's moment, and what was imagined from it: episode_id,
    goes_back_to."""
    found = quarantine.in_force(lake)
    columns = {"episode_id": list(found), "goes_back_to": list(found.values())}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def labels_table(said: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """What is in force of a list (`labels.in_force`, `labels.decisions`): episode_id, label, who, why, at."""
    rows = list(said.values())
    return pa.table({name: pa.array([row[name] for row in rows], LABELS.field(name).type) for name in labels.COLUMNS})


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def lacking(lake: Lake, name: str) -> tuple[str, ...]:
    """Columns that files of a table may not have. To look into every file takes time: only of a lake that was
    migrated."""
    return NEW.get(name, ()) if read_format(lake.paths).get("migrated") else ()


def select(name: str, paths: Sequence[str], without: Sequence[str] = ()) -> str:
    """The rows of these files; `without`: columns that some of them, or all, may not have."""
    schema = TABLES[name]
    if not paths:
        columns = (f'CAST(NULL AS {_type(column.type)}) AS "{column.name}"' for column in schema)
        return f"SELECT {', '.join(columns)} WHERE false"
    options = f", {HIVE}" if name in PARTITIONED else ""
    columns = (f'"{column}"' for column in schema.names)  # "at" is a word of SQL
    files = f"read_parquet([{', '.join(map(quoted, paths))}]{options}{', union_by_name = true' if without else ''})"
    if not without:
        return f"SELECT {', '.join(columns)} FROM {files}"
    none = ", ".join(f'CAST(NULL AS {_type(schema.field(name).type)}) AS "{name}"' for name in without)
    rows = f"SELECT {none} WHERE false UNION ALL BY NAME FROM {files}"  # all of them may lack it
    return f"SELECT {', '.join(columns)} FROM ({rows})"


def _type(kind: pa.DataType) -> str:
    """DuckDB's name of a column type of the lake's tables."""
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    return {
        "string": "VARCHAR",
        "bool": "BOOLEAN",
        "int32": "INTEGER",
        "int64": "BIGINT",
        "float": "FLOAT",
        "double": "DOUBLE",
        "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
    }[str(kind)]
