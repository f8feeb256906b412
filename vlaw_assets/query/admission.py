"""Which SQL is admitted: one SELECT that names views, and table functions from a list; or EXPLAIN of such a SELECT.

Everything that attaches, installs or sets is another kind of statement, so the statement's type refuses it. The type is
not enough: `WITH d AS (COPY ... TO ...) SELECT ...` is a SELECT to DuckDB, and could overwrite the very files that the
views are allowed to read. So DuckDB's own parse tree is walked (comments, quotes and nesting hide nothing in it), and
only kinds of nodes and table functions from the lists below are admitted. EXPLAIN ANALYZE is not: it is the one EXPLAIN
that runs what follows, and its profiler has outputs of its own. Runs in the worker (worker.py), which is also where
files are kept shut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from vlaw_models.errors import VlawError

TABLE_FUNCTIONS = frozenset(
    {
        "range",
        "generate_series",
        "unnest",
        "repeat",
        "repeat_row",
        "json_each",
        "json_tree",
        "summary",
        "histogram",
        "histogram_values",
        "read_parquet",
        "parquet_scan",
        "parquet_metadata",
        "parquet_file_metadata",
        "parquet_schema",
        "duckdb_tables",
        "duckdb_views",
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_types",
        "duckdb_keywords",
        "duckdb_settings",
        "reached_by",
        "pragma_table_info",
        "pragma_version",
        "pg_timezone_names",
        "icu_calendar_names",
    }
)
"""What makes rows of its arguments, of Parquet files (only pinned ones open) or of what is in the connection."""
FILE_FUNCTIONS = frozenset(name for name in TABLE_FUNCTIONS if "parquet" in name)
NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Kinds of queries and of WITH clauses; the others write."""
REFUSED_FUNCTIONS = frozenset({"write_log", "sleep_ms", "setval", "nextval", "setseed", "currval"})
"""Scalar functions with an effect."""

LISTS = ("duckdb_", "pragma_", "pg_", "sqlite_")
"""How the names begin of what tells which tables and views there are."""

TOO_DEEP = "Max expression depth"
"""In DuckDB's error for a deep statement, which goes on to recommend a setting that is locked."""
_PATH = re.compile(r"[./].*\w|\w.*[./]", re.DOTALL)
"""A name that may be one of a file. The operator / is named among tables too."""
_EXPLAIN = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b", re.IGNORECASE | re.DOTALL)
_REMEDY = "the lake is read-only; SHOW TABLES lists the views"


@dataclass(frozen=True)
class Admitted:
    """A statement that may run."""

    statement: duckdb.Statement
    names: frozenset[str]
    """Tables, views and functions it names, in lower case (and names of its own WITH clauses)."""
    any_file: bool
    """Whether it opens files by path: it may read any of those that the connection can."""
    lists: bool
    """Whether it may tell which tables and views there are."""


def admit(connection: duckdb.DuckDBPyConnection, sql: str) -> Admitted:
    """Parse `sql`; raises VlawError, saying why, for anything but one SELECT of what is there to be read, or its
    EXPLAIN.

    Raises RecursionError for a statement that is nested too deeply to be checked, MemoryError for one that is too
    large.
    """
    statements = _statements(connection, sql)
    kinds = [_kind(statement) for statement in statements]
    if kinds == ["EXPLAIN"]:
        explained = _select(connection, _EXPLAIN.sub("", statements[0].query, count=1), "EXPLAIN of ")
        (statement,) = _statements(connection, f"EXPLAIN {explained.statement.query}")
        return Admitted(statement, explained.names, explained.any_file, explained.lists)
    return _select(connection, sql, "")


def _select(connection: duckdb.DuckDBPyConnection, sql: str, before: str) -> Admitted:
    statements = _statements(connection, sql)
    kinds = [_kind(statement) for statement in statements]
    if kinds != ["SELECT"]:
        raise VlawError(
            f"only a single SELECT is admitted, this is {before}{', '.join(kinds) or 'nothing'}",
            where="sql",
            remedy=_REMEDY,
        )
    found = list(_nodes(_tree(connection, statements[0].query)))
    writes = sorted({_text(node.get("type")) for node in found if _text(node.get("type")).endswith("_NODE")} - NODES)
    if writes:
        kind = writes[0].removesuffix("_NODE").removesuffix("_QUERY")
        raise VlawError(f"only a single SELECT is admitted, this one has {kind} inside", where="sql", remedy=_REMEDY)
    calls = [
        (node["function"]["function_name"].lower(), "table function")
        for node in found
        if node.get("type") == "TABLE_FUNCTION"
    ]
    named = [node["function_name"].lower() for node in found if "function_name" in node]
    refused = [call for call in calls if call[0] not in TABLE_FUNCTIONS]
    refused += [(name, "function") for name in named if name in REFUSED_FUNCTIONS]
    if refused:
        name, kind = refused[0]
        raise VlawError(
            f"the {kind} {name} is not admitted: SQL reads the views and nothing else", where="sql", remedy=_REMEDY
        )
    # Wherever a table can be named, not in FROM alone: DESCRIBE, SHOW and SUMMARIZE have nodes of their own.
    tables = frozenset(name.lower() for node in found for name in _names(node))
    any_file = any(name in FILE_FUNCTIONS for name, _ in calls) or any(_PATH.search(name) for name in tables)
    names = tables | frozenset(named)
    # SHOW of no query, and any schema but the usual one: information_schema and pg_catalog, by whatever name.
    lists = any(name.startswith(LISTS) for name in names) or any(
        _text(node.get("schema_name")).lower() not in ("", "main")
        or (node.get("type") == "SHOW_REF" and not node.get("query"))
        for node in found
    )
    return Admitted(statements[0], names, any_file, lists)


def _statements(connection: duckdb.DuckDBPyConnection, sql: str) -> list[duckdb.Statement]:
    with _errors_told():
        return connection.extract_statements(sql)


@contextmanager
def _errors_told() -> Iterator[None]:
    """DuckDB's errors of a statement that it only reads: too large, too deep, or no SQL."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except duckdb.Error as error:
        if TOO_DEEP in str(error):
            raise RecursionError from error
        raise VlawError(str(error).strip(), where="sql", remedy="mend the SQL") from error


def _names(node: dict[str, Any]) -> Iterator[str]:
    """Names of tables in one object of the tree, each without its quotes."""
    if _text(node.get("table_name")):
        yield node["table_name"].strip('"')
    path = node.get("path")
    if isinstance(path, list) and path and isinstance(path[-1], str):
        yield path[-1].strip('"')


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # DuckDB has kinds that its Python module has no name for
        return "something else"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    with _errors_told():
        row = connection.cursor().execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchone()
        tree = json.loads(row[0] if row else "{}")
    if tree.get("error_message") == "Allocation failure":
        raise MemoryError
    if tree.get("error"):
        raise VlawError(
            f"this SELECT cannot be checked: {tree.get('error_message', '')}",
            where="sql",
            remedy="write it without PIVOT and the like",
        )
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree; by a stack, since SQL may nest deeper than Python recurses."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack += item.values()
        elif isinstance(item, list):
            stack += item
