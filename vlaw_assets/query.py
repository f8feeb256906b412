"""SQL over a lake, for reading only: DuckDB with views of exactly what the ledger says exists.

The views are Arrow tables and datasets handed over by this module, so DuckDB itself needs no file and no network and
gets none: external access is off, the configuration is locked, and only SELECT statements are admitted. There is no
list of forbidden words to get around. Rows of killed runs are in no view, because views are built from the files
that ledger rows name, not from the Delta tables.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from vlaw_assets.lake.schemas import PARTITIONED, TABLES
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

_LOCKS = (
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)
"""In this order: the last one freezes the others."""

_ARTIFACTS = pa.schema([
    ("sequence", pa.int64()), ("artifact_id", pa.string()), ("owner_id", pa.string()), ("asset", pa.string()),
    ("partition", pa.string()), ("experiment", pa.string()), ("iteration", pa.int32()), ("kind", pa.string()),
    ("is_current", pa.bool_()), ("source_artifact_id", pa.string()), ("content_digest", pa.string()),
    ("code_digest", pa.string()), ("recipe_digest", pa.string()), ("parents_digest", pa.string()),
    ("identity_digest", pa.string()), ("location", pa.string()), ("versions_json", pa.string()),
    ("recipe_json", pa.string()), ("metrics_json", pa.string()), ("num_rows", pa.int64()), ("run_id", pa.string()),
    ("code_revision", pa.string()), ("created_at", pa.timestamp("us", tz="UTC")),
])
_EDGES = pa.schema([
    ("child_id", pa.string()), ("parent_id", pa.string()), ("role", pa.string()), ("read_as", pa.string()),
])


class Query:
    """A locked DuckDB connection that admits one SELECT at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self._connection = connection

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run one SELECT; fetch from what is returned (`fetchall`, `description`, `to_arrow_table`).

        Args:
            parameters: values for `$name` in the SQL; a name that is not given is NULL.

        Raises VlawError for anything but one SELECT, for unknown parameters and for SQL that fails.
        """
        statement = self._admit(sql)
        try:
            return self._connection.execute(statement, _bound(statement, parameters))
        except duckdb.Error as error:
            raise _mistake(error) from error

    def table(self, sql: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = 60.0) -> pa.Table:
        """The whole result as an Arrow table; interrupted with a VlawError after `timeout_s` seconds."""
        statement = self._admit(sql)
        timer = threading.Timer(timeout_s, self._connection.interrupt)
        timer.start()
        try:
            relation = self._connection.sql(statement, params=_bound(statement, parameters))
            return relation.to_arrow_table()
        except duckdb.InterruptException as error:
            raise VlawError(f"stopped after {timeout_s:g} s", where="sql", remedy="narrow the query") from error
        except duckdb.Error as error:
            raise _mistake(error) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Query:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _admit(self, sql: str) -> duckdb.Statement:
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise VlawError(str(error).strip(), where="sql", remedy="mend the SQL") from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
            raise VlawError(f"only a single SELECT is admitted, this is {kinds}", where="sql", remedy="the lake is read-only")
        return statements[0]


def _bound(statement: duckdb.Statement, parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    names, given = set(statement.named_parameters), dict(parameters or {})
    if set(given) - names:
        raise VlawError(
            f"the SQL has no parameter {', '.join(sorted(set(given) - names))}",
            where="sql",
            remedy=f"its parameters are: {', '.join(sorted(names)) or 'none'}",
        )
    return dict.fromkeys(names) | given if names else None


def _mistake(error: duckdb.Error) -> VlawError:
    return VlawError(str(error).strip(), where="sql", remedy="SHOW TABLES and DESCRIBE episodes say what there is")


def connect(lake: Lake, *, at: int | None = None, memory_limit: str = "2GB", threads: int = 2) -> Query:
    """Views `episodes, steps, reward_scores, members, evaluations, artifacts, edges` over what is committed.

    `artifacts.owner_id` is the artifact whose rows hold the data: join data tables on it, and reuse is followed.

    Args:
        at: show the lake as it was after the artifact with this `sequence`; default now.
    """
    refs = lake.ledger.artifacts()
    refs = refs if at is None else refs[: at + 1]
    connection = duckdb.connect(":memory:", config={"memory_limit": memory_limit, "threads": threads})
    connection.register("artifacts", _artifacts(refs))
    connection.register("edges", _edges(lake, refs))
    for name in sorted(PARTITIONED):
        connection.register(name, _rows(lake, name, refs))
    for statement in _LOCKS:
        connection.execute(statement)
    return Query(connection)


def read_question(path: Path) -> tuple[str, str]:
    """(question in English, SQL) of one file of `sql/`. Raises VlawError without the question on its first line."""
    try:
        sql = path.read_text(encoding="utf-8")
    except OSError as error:
        raise VlawError(f"cannot read the SQL file: {error.strerror}", where=str(path), remedy="see the folder sql/") from error
    first = sql.partition("\n")[0]
    if not first.startswith("-- "):
        raise VlawError("the first line is not a question", where=str(path), remedy="start with '-- Which ...?'")
    return first.removeprefix("-- ").strip(), sql


def _artifacts(refs: list[ArtifactRef]) -> pa.Table:
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
    return pa.Table.from_pylist(rows, schema=_ARTIFACTS)


def _edges(lake: Lake, refs: list[ArtifactRef]) -> pa.Table:
    rows = []
    for ref in refs:
        if not ref.source_artifact_id:
            rows += lake.tables.read("edges", ref.versions.get("edges")).to_pylist()
    return pa.Table.from_pylist([row | {"child_id": row["artifact_id"]} for row in rows], schema=_EDGES)


def _rows(lake: Lake, name: str, refs: list[ArtifactRef]) -> pa.Table | pads.Dataset:
    schema = TABLES[name]
    entries = (ref.versions.get(name) for ref in refs if not ref.source_artifact_id)
    files = [str(lake.paths.root / file["path"]) for entry in entries if entry for file in entry["files"]]
    if not files:
        return schema.empty_table()
    layout = pads.partitioning(pa.schema([schema.field("asset"), schema.field("partition_key")]), flavor="hive")
    return pads.dataset(
        files, schema=schema, format="parquet", partitioning=layout, partition_base_dir=str(lake.paths.table(name))
    )
