"""SQL views of a lake: for every table exactly the files that ledger rows name, read by DuckDB itself.

Here: which files a view reads, what is wrong with them, and the statements that make tables and views on a DuckDB
connection. Not here: locking the connection (__init__.py) and writing a catalogue file (catalogue.py); both use this, so
they show the same rows. Rows of killed runs are in no view: a view reads the files of ledger rows, not a Delta table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from vlaw_assets.lake import quarantine
from vlaw_assets.lake.reads import statement
from vlaw_assets.lake.schemas import ARTIFACTS, PARTITIONED, TABLES
from vlaw_assets.query.reach import REACHED_BY
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import duckdb

    from vlaw_assets.lake import ArtifactRef, Lake

DATA_TABLES = tuple(sorted(set(TABLES) - {"artifacts", "edges"}))

_COLUMNS = frozenset(name for schema in TABLES.values() for name in schema.names)
_EDGE = ("child_id", "parent_id", "role", "read_as", "scope", "selection", "selection_id")
_HIVE = "hive_partitioning = true, hive_types = {'asset': VARCHAR, 'partition_key': VARCHAR}"
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

_EMBEDDERS = "SELECT artifact_id FROM artifacts WHERE source_artifact_id = '' AND (versions_json -> '$.embeddings') IS NOT NULL"
"""Artifacts that hold a vector per episode of what they read by rows."""
READ_BY_READS = ("episodes", "members", "reads", "reward_scores", "quarantine")
"""Views that `episode_reads` is made of."""

_STUDY_ARTIFACTS = """
SELECT a.*, s.study, regexp_extract(arm, '^(.+)-s[0-9]+$', 1) AS recipe, regexp_extract(arm, '-s([0-9]+)$', 1)::INTEGER AS seed
FROM artifacts a
JOIN (SELECT DISTINCT experiment AS study FROM artifacts WHERE asset = 'study') s ON starts_with(a.experiment, s.study || '-'),
  (SELECT substr(a.experiment, length(s.study) + 2) AS arm)
WHERE regexp_full_match(arm, '.+-s[0-9]+')
QUALIFY length(s.study) = max(length(s.study)) OVER (PARTITION BY a.sequence)
"""
"""The artifacts of every study, whose experiments are called STUDY-RECIPE-sSEED. Of studies 'a' and 'a-b', 'a-b-c-s0' is of 'a-b'."""


_QUARANTINED = "SELECT *, episode_id IN (SELECT episode_id FROM in_quarantine) AS quarantined FROM ({select})"
"""Column of `episodes`: whether it is in quarantine now, or was imagined from one that is. Whoever counts leaves it out."""

_EVALUATIONS = """
SELECT v.*, coalesce(q.trials, 0) AS quarantined_trials FROM ({select}) v
LEFT JOIN (
  SELECT artifact_id, coalesce(task, 'all') AS task, count(*) AS trials FROM episodes WHERE quarantined
  GROUP BY GROUPING SETS ((artifact_id, task), (artifact_id))
) q ON q.artifact_id = v.artifact_id AND q.task = v.task
"""
"""Column of `evaluations`: how many of the episodes that a row was counted over are in quarantine now."""

_MADE_EDGES = "SELECT e.* FROM edges e JOIN artifacts a ON a.artifact_id = e.child_id WHERE a.source_artifact_id = ''"
"""The edges of artifacts that hold their own data."""

_READS = f"""
WITH made AS ({statement('made_edges')})
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
    size: int
    ref: ArtifactRef = field(repr=False)

    def problem(self) -> str:
        """What is wrong with the file as far as its size tells; '' if nothing."""
        try:
            size = os.stat(self.path).st_size
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return "" if size == self.size else f"has {size} bytes, the ledger says {self.size}"


def damage(source: Source, what: str) -> VlawError:
    """The error for a pinned file that is not what the ledger says."""
    partition = f" {source.ref.partition.replace('|', ' ')}" if source.ref.partition else ""
    return VlawError(
        f"a file of {source.ref.name} ({source.ref.artifact_id}) {what}",
        where=source.path,
        remedy=f"`vlaw audit {source.ref.asset}{partition} --verify` names all damage; "
        "restore the file, or materialize the artifact again with force",
    )


def sources(lake: Lake, refs: Sequence[ArtifactRef]) -> dict[str, list[Source]]:
    """The files behind every data table, in commit order. A pointer's rows are its owner's: they are listed once.

    Raises VlawError for a lake below a folder that is named like a column and its value.
    """
    for part in lake.paths.root.parts:
        if "=" in part and part.partition("=")[0].lower() in _COLUMNS:
            raise VlawError(
                f"the lake lies in a folder {part!r}, which DuckDB takes for the value of a column",
                where=str(lake.paths.root), remedy="rename that folder",
            )
    found: dict[str, list[Source]] = {name: [] for name in DATA_TABLES}
    for ref in refs:
        if ref.source_artifact_id:
            continue
        for name, files in found.items():
            for file in (ref.versions.get(name) or {"files": ()})["files"]:
                files.append(Source(str(lake.paths.root / file["path"]), int(file["size"]), ref))
    return found


def damaged(files: dict[str, list[Source]]) -> dict[str, VlawError]:
    """Table -> what is wrong with its first missing or truncated file. A few microseconds per file."""
    found: dict[str, VlawError] = {}
    for name, listed in files.items():
        for source in listed:
            what = source.problem()
            if what:
                found[name] = damage(source, what)
                break
    if "episodes" in found:
        found["frames"] = found["episodes"]
    return found


def make(
    connection: duckdb.DuckDBPyConnection, lake: Lake, refs: Sequence[ArtifactRef], files: dict[str, list[Source]],
    without: Sequence[str] = (),
) -> None:
    """Tables `artifacts`, `edges` and `in_quarantine`, a view per data table, for `frames`, `episode_reads` and
    `study_artifacts`, and the macro `reached_by`, but for those in `without` and what is made of them.

    `artifacts.owner_id` is the artifact whose rows hold the data: join data tables on it, and reuse is followed.
    """
    make_table(connection, "artifacts", artifacts_table(refs))
    make_table(connection, "edges", edges_table(lake, refs))
    make_table(connection, "in_quarantine", quarantine_table(lake))
    for name, listed in files.items():
        if name not in without:
            select = _select(connection, name, [source.path for source in listed])
            if name == "episodes":
                select = _QUARANTINED.format(select=select)
            elif name == "evaluations" and "episodes" not in without:
                select = _EVALUATIONS.format(select=select)
            connection.execute(f"CREATE VIEW {name} AS {select}")
    connection.execute(f"CREATE VIEW embedders AS {_EMBEDDERS}")
    connection.execute(f"CREATE VIEW made_edges AS {_MADE_EDGES}")
    if not set(READ_BY_READS) & set(without):
        connection.execute(f"CREATE VIEW episode_reads AS {_READS}")
        connection.execute(REACHED_BY)
    connection.execute(f"CREATE VIEW study_artifacts AS {_STUDY_ARTIFACTS}")
    if "episodes" not in without:
        connection.execute(f"CREATE VIEW frames AS {_FRAMES.format(path=quoted(str(lake.paths.frames)))}")


def make_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A table of DuckDB's own with these rows; no Arrow object stays behind it."""
    connection.register("given", rows)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
    connection.unregister("given")


def artifacts_table(refs: Sequence[ArtifactRef]) -> pa.Table:
    """The ledger in commit order, with `sequence`, `owner_id` and `is_current`."""
    newest = {(ref.asset, ref.partition): ref.artifact_id for ref in refs}
    rows = [
        ref.to_row()
        | {
            "sequence": sequence,
            "owner_id": ref.owner,
            "is_current": newest[ref.asset, ref.partition] == ref.artifact_id,
        }
        for sequence, ref in enumerate(refs)
    ]
    first = [("sequence", pa.int64()), ("owner_id", pa.string()), ("is_current", pa.bool_())]
    return pa.Table.from_pylist(rows, schema=pa.schema([*first, *((field.name, field.type) for field in ARTIFACTS)]))


def edges_table(lake: Lake, refs: Sequence[ArtifactRef]) -> pa.Table:
    """Who was made from whom: child_id, parent_id, role, read_as, scope, selection, selection_id.

    A pointer has lines where it does not stand as its owner does; otherwise its owner's are its own.
    """
    rows = [
        {"child_id": ref.artifact_id, "parent_id": edge.parent} | {name: getattr(edge, name) for name in _EDGE[2:]}
        for ref in refs for edge in lake.ledger.own_edges(ref.artifact_id)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in _EDGE]))


def quarantine_table(lake: Lake) -> pa.Table:
    """Every episode that is in quarantine at the lake's moment, and what was imagined from it: episode_id, goes_back_to."""
    found = quarantine.in_force(lake)
    columns = {"episode_id": list(found), "goes_back_to": list(found.values())}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _select(connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[str]) -> str:
    schema = TABLES[name]
    if not paths:
        types = connection.from_arrow(schema.empty_table()).types
        columns = (f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in zip(schema.names, types, strict=True))
        return f"SELECT {', '.join(columns)} WHERE false"
    options = f", {_HIVE}" if name in PARTITIONED else ""
    columns = (f'"{column}"' for column in schema.names)  # "at" is a word of SQL
    return f"SELECT {', '.join(columns)} FROM read_parquet([{', '.join(map(quoted, paths))}]{options})"
