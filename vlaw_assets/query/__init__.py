"""SQL over a lake, for reading only: DuckDB with views of exactly what the ledger says exists.

DuckDB reads the Parquet files itself (projections, filters and partitions are pushed down), and may open these files and
no other: the paths of the views are allowed one by one, external access is off, the configuration is locked, nothing is
spilled to disk, and only one SELECT is admitted at a time (admission.py), in a read-only transaction. Which files:
views.py.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from vlaw_assets.query import views
from vlaw_assets.query.admission import Admitted, admit
from vlaw_assets.query.questions import read_question
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

__all__ = ["Query", "connect", "read_question"]

TIMEOUT_S = 60.0

_LOCKS = (
    # A lake's files never change: their footers are read once (a third of a short query over 200 files was just that).
    "SET parquet_metadata_cache = true",
    "SET validate_external_file_cache = 'NO_VALIDATION'",
    # A temporary folder would become an allowed one; without it a query that needs more memory fails.
    "SET temp_directory = ''",
    "SET allowed_paths = {paths}",
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allow_persistent_secrets = false",
    "SET lock_configuration = true",
)
"""In this order: paths cannot be allowed when external access is off, and the last one freezes the others."""


class Query:
    """A locked DuckDB connection that admits one SELECT at a time. Made by `connect`."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, files: Mapping[str, list[views.Source]], damaged: Mapping[str, VlawError]
    ):
        self._connection, self._files, self._damaged = connection, files, damaged

    def execute(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> duckdb.DuckDBPyConnection:
        """Run one SELECT; fetch from what is returned (`fetchall`, `description`, `to_arrow_table`).

        Args:
            parameters: values for `$name` in the SQL; a name that is not given is NULL.

        Raises VlawError for anything but one SELECT, for unknown parameters, for SQL that fails or takes longer than
        `timeout_s` seconds, and where a pinned file of a view it names is gone.
        """
        return self._run(sql, parameters, timeout_s, self._connection.execute)

    def table(self, sql: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S) -> pa.Table:
        """The whole result as an Arrow table. Arguments and errors as `execute`."""
        return self._run(
            sql, parameters, timeout_s, lambda admitted, bound: self._connection.sql(admitted, params=bound).to_arrow_table()
        )

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Query:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, sql: str, parameters: Mapping[str, Any] | None, timeout_s: float, what: Any) -> Any:
        admitted = admit(self._connection, sql)
        bound = _bound(admitted.statement, parameters)
        timer = threading.Timer(timeout_s, self._connection.interrupt)
        timer.start()
        try:
            self._begin()
            return what(admitted.statement, bound)
        except duckdb.InterruptException as error:
            raise VlawError(f"stopped after {timeout_s:g} s", where="sql", remedy="narrow the query, or allow it more time") from error
        except duckdb.Error as error:
            raise self._explained(error, admitted) from error
        finally:
            timer.cancel()

    def _begin(self) -> None:
        """A transaction in which nothing can be written, whatever was admitted; it ends with the next query."""
        with contextlib.suppress(duckdb.TransactionException):  # there is none before the first query
            self._connection.rollback()
        self._connection.execute("BEGIN TRANSACTION READ ONLY")

    def _explained(self, error: duckdb.Error, admitted: Admitted) -> VlawError:
        if isinstance(error, duckdb.CatalogException):
            for name in sorted(admitted.names & set(self._damaged)):
                return self._damaged[name]
        if isinstance(error, duckdb.IOException | duckdb.InvalidInputException | duckdb.PermissionException):
            # A file that was there when the views were made may be gone or damaged by now.
            found = views.damaged(dict(self._files))
            for name in sorted(admitted.names & set(found)):
                return found[name]
            for source in (source for listed in self._files.values() for source in listed):
                if source.path in str(error) and not isinstance(error, duckdb.PermissionException):
                    return views.damage(source, f"cannot be read: {_first_line(error)}")
        if isinstance(error, duckdb.PermissionException):
            return VlawError(f"SQL reads the views and no other file: {_first_line(error)}", where="sql", remedy="SHOW TABLES lists the views")
        if isinstance(error, duckdb.OutOfMemoryException):
            return VlawError(_first_line(error), where="sql", remedy="narrow the query, or connect with a larger memory_limit")
        return VlawError(str(error).strip(), where="sql", remedy="SHOW TABLES and DESCRIBE episodes say what there is")


def connect(
    lake: Lake | str | Path, as_of: str | int | None = None, *, memory_limit: str = "2GB", threads: int = 2
) -> Query:
    """A view for every data table, for `frames` (references, no pixels) and for `study_artifacts`, tables `artifacts` and `edges`.

    `artifacts.owner_id` is the artifact whose rows hold the data: join data tables on it, and reuse is followed.

    Args:
        lake: an open lake, or its folder.
        as_of: show the lake as it was at that moment (see `Lake.as_of`); default as it is now, or as `lake` is.
        memory_limit: of DuckDB, as in '2GB'; nothing is spilled to disk.

    A table of which a pinned file is missing or truncated cannot be read, and says so; the others can.
    Raises VlawError: no lake there, or a moment before the first commit.
    """
    lake = opened(lake, as_of)
    refs = lake.ledger.artifacts()
    files = views.sources(lake, refs)
    damaged = views.damaged(files)
    connection = duckdb.connect(
        ":memory:", config={"memory_limit": memory_limit, "threads": threads, "python_enable_replacements": "false"}
    )
    views.make(connection, lake, refs, files, without=tuple(damaged))
    paths = ", ".join(views.quoted(source.path) for listed in files.values() for source in listed)
    for statement in _LOCKS:
        connection.execute(statement.format(paths=f"[{paths}]"))
    return Query(connection, files, damaged)


def opened(lake: Lake | str | Path, as_of: str | int | None) -> Lake:
    """The lake of that folder, as of that moment."""
    if isinstance(lake, str | Path):
        from vlaw_assets.lake import Lake

        lake = Lake.open(lake, create=False)
    return lake if as_of is None else lake.as_of(as_of)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _bound(statement: duckdb.Statement, parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    names, given = set(statement.named_parameters), dict(parameters or {})
    if set(given) - names:
        raise VlawError(
            f"the SQL has no parameter {', '.join(sorted(set(given) - names))}",
            where="sql",
            remedy=f"its parameters are: {', '.join(sorted(names)) or 'none'}",
        )
    return dict.fromkeys(names) | given if names else None
