"""SQL over a lake, for reading only: DuckDB with views of exactly what the ledger says exists.

DuckDB runs in a process of its own (process.py starts it, worker.py is what runs there), so that memory, time and the
size of a result are limits, whatever a statement does. It reads the Parquet files itself (projections, filters and
partitions are pushed down), and may open these files and no other: the paths of the views are allowed one by one,
external access is off, the configuration is locked, nothing is spilled to disk, and only one SELECT is admitted at a
time (admission.py), in a read-only transaction. Which files: views.py. Before a statement runs, every file of the views
that it names is known to have the bytes that the ledger recorded (lake/verified.py). Tables and views are made when a
statement needs them.
"""

from __future__ import annotations

import decimal
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.query.limits import MEMORY, TIMEOUT_S, Limits
from vlaw_assets.query.process import FailedError, SqlProcess
from vlaw_assets.query.questions import read_question
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

    from vlaw_assets.lake import Lake
    from vlaw_assets.query.views import Source

__all__ = ["Limits", "Query", "Result", "connect", "read_question"]

WIDE = re.compile(
    r"\bshow\b|\bdescribe\s*(;|$)|\binformation_schema\b|\b(duckdb|pragma|pg|sqlite)_|parquet", re.IGNORECASE
)
"""Words of most statements that need all there is (see `Admitted`, which says it exactly)."""


class Result:
    """The rows of one statement, all of them here already."""

    def __init__(self, table: pa.Table):
        self._table = table
        self._given = 0

    @property
    def description(self) -> list[tuple[str, str]]:
        """(name, Arrow type) of every column."""
        return [(field.name, str(field.type)) for field in self._table.schema]

    def to_arrow_table(self) -> pa.Table:
        return self._table

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that were not fetched yet; whole numbers of DuckDB's widest types as int."""
        rest, self._given = self._table.slice(self._given), self._table.num_rows
        if not rest.num_columns:
            return [()] * rest.num_rows
        return list(zip(*map(_values, rest.columns), strict=True))

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        row = Result(self._table.slice(self._given, 1)).fetchall()
        self._given += len(row)
        return row[0] if row else None


class _MadeAnewError(Exception):
    """The statement needs more than was made, or a view that could not be made can be by now."""


class Query:
    """A locked DuckDB connection that admits one SELECT at a time. Made by `connect`.

    The first statement is given the tables and views that it names, with what they are made of. The first one that
    needs more is given all there are, by a new process: which files a locked connection may open cannot be changed.
    """

    def __init__(self, process: SqlProcess, lake: Lake):
        from vlaw_assets.query import views

        self._process, self._lake = process, lake
        views.check_folder(lake)
        definitions = views.definitions(
            lake, dict.fromkeys(views.DATA_TABLES, ())
        )  # what they stand on does not depend on files
        self._uses = dict.fromkeys(views.COPIED, frozenset[str]()) | {
            name: views.uses(text) for name, text in definitions.items()
        }
        self.names = frozenset(self._uses)
        """Names of all tables and views."""
        self._made: frozenset[str] | None = None
        """Those that the process was given."""
        self._broken: dict[str, VlawError] = {}
        """Tables that could not be made, with the reason: a file that they are made of is not as it was recorded."""
        self._hopeless: set[str] = set()
        """Views that could not be made, although their files are sound."""
        self._one_at_a_time = threading.Lock()

    @property
    def worker_pid(self) -> int | None:
        """The process that DuckDB runs in; None after it was ended."""
        return self._process.worker_pid

    def read(self) -> None:
        """Read the ledger: from now on the connection shows the lake as it is now."""
        _ = self._still

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S) -> Result:
        """Run one SELECT, or EXPLAIN of one.

        Args:
            parameters: values for `$name` in the SQL; a name that is not given is NULL.
            timeout_s: seconds for reading, planning and running the statement and fetching its rows. Files that are
            hashed
                for the first time are not counted.

        Raises VlawError for anything but one SELECT, for unknown parameters, for SQL that fails or reaches a limit (see
        `Limits`), and where a pinned file of a view it names is gone or not as it was recorded.
        """
        return Result(self.table(sql, parameters, timeout_s=timeout_s))

    def table(self, sql: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S) -> pa.Table:
        """The whole result as an Arrow table. Arguments and errors as `execute`."""
        from vlaw_assets.query import views

        self._process.limits.check(sql)
        with self._one_at_a_time:
            # By its words alone: the worker says what it names, once it has parsed it.
            likely = self.names if WIDE.search(sql) else self.names & self._behind(views.uses(sql.lower()))
            if self._made is None:
                self._make(likely)
            while True:
                try:
                    return self._ask(sql, parameters or {}, timeout_s)
                except _MadeAnewError:
                    self._make(self.names)

    def close(self) -> None:
        self._process.close()

    def __enter__(self) -> Query:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @cached_property
    def _still(self) -> Lake:
        return self._lake.still()

    @cached_property
    def _files(self) -> dict[str, list[Source]]:
        from vlaw_assets.query import views

        return views.sources(self._still, self._still.ledger.artifacts())

    @cached_property
    def _definitions(self) -> dict[str, str]:
        from vlaw_assets.query import views

        return views.definitions(self._still, self._files)

    @cached_property
    def _tables(self) -> dict[str, Callable[[], pa.Table]]:
        from vlaw_assets.query import views

        return views.tables(self._still, self._still.ledger.artifacts())

    def _make(self, names: frozenset[str]) -> None:
        """Make these tables and views; those that cannot be made are left out, and said when they are named."""
        from vlaw_assets.query import views

        self._broken, tables = {}, {}
        for name in views.COPIED:
            if name in names:
                try:
                    tables[name] = self._tables[name]()
                except VlawError as error:
                    self._broken[name] = error
        if names <= views.COPIED:
            definitions, paths = {}, ""  # without the files, which are many
        else:
            definitions = {name: text for name, text in self._definitions.items() if name in names}
            paths = ", ".join(
                views.quoted(source.path) for name, listed in self._files.items() if name in names for source in listed
            )
        self._process.make(tables=tables, definitions=definitions, paths=f"[{paths}]")
        self._made = names

    def _ask(self, sql: str, parameters: Mapping[str, Any], timeout_s: float) -> pa.Table:
        from vlaw_assets.query import views

        names: set[str] = set()

        def verify(named: frozenset[str], *, any_file: bool, lists: bool) -> None:
            names.update(self._behind(views.DATA_TABLES if any_file else named))
            if not (self._made or frozenset()) >= (self.names if any_file or lists else self.names & names):
                raise _MadeAnewError
            self._verify(names)
            for name in sorted(names & self._broken.keys()):
                self._tables[name]()  # raises what is wrong with it
                raise _MadeAnewError
            if names & self._process.failed.keys() - self._hopeless:
                self._hopeless |= self._process.failed.keys()
                raise _MadeAnewError

        try:
            return self._process.ask(sql, parameters, timeout_s, verify)
        except FailedError as error:
            if error.kind == "CatalogException" and self._made != self.names:
                raise _MadeAnewError from None  # what is not there is said of all there is
            raise self._explained(error, names) from None

    def _behind(self, names: Iterable[str]) -> set[str]:
        """These names and those of all that they are made of."""
        found, fresh = set(), set(names)
        while fresh:
            found |= fresh
            fresh = set().union(*(self._uses.get(name, ()) for name in fresh)) & self.names - found
        return found

    def _verify(self, names: set[str]) -> None:
        """Raises VlawError for the first file of these views that is not as it was recorded."""
        from vlaw_assets.query import views

        wrong = self._lake.verified.damage(
            (source.ref, source.file) for name in sorted(names & set(views.DATA_TABLES)) for source in self._files[name]
        )
        if wrong:
            raise wrong

    def _explained(self, error: FailedError, names: set[str]) -> VlawError:
        from vlaw_assets.lake import disk

        kind, first = error.kind, error.text.partition("\n")[0]
        if kind == "IOException" and (known := disk.named(error)) is not None:
            return known
        if kind in ("IOException", "InvalidInputException", "PermissionException"):
            try:
                self._verify(names)  # a file may have gone since
            except VlawError as damage:
                return damage
        if kind == "CatalogException":
            for name in sorted(names & set(self._process.failed)):
                return VlawError(
                    f"the view {name} could not be made: {self._process.failed[name]}",
                    where=str(self._lake.paths.root),
                    remedy="`vlaw audit --all --verify` names all damage",
                )
        if kind == "PermissionException":
            return VlawError(
                f"SQL reads the views and no other file: {first}", where="sql", remedy="SHOW TABLES lists the views"
            )
        if kind == "OutOfMemoryException":
            return VlawError(
                first,
                where="sql",
                remedy=f"narrow the query, or allow it more than {self._process.limits.memory} (memory_limit, vlaw "
                f"sql --memory)",
            )
        return VlawError(error.text, where="sql", remedy="SHOW TABLES and DESCRIBE episodes say what there is")


def connect(
    lake: Lake | str | Path,
    as_of: str | int | None = None,
    *,
    memory_limit: str = MEMORY,
    threads: int = 2,
    limits: Limits | None = None,
    lazy: bool = False,
) -> Query:
    """A view for every data table, for `frames` (references, no pixels) and for `study_artifacts`, tables `artifacts`
    and `edges`.

    `artifacts.owner_id` is the artifact whose rows hold the data: join data tables on it, and reuse is followed.

    Args:
        lake: an open lake, or its folder.
        as_of: show the lake as it was at that moment (see `Lake.as_of`); default as it is now, or as `lake` is.
        memory_limit: of DuckDB, as in '2GB'; nothing is spilled to disk.
        limits: all limits; `memory_limit` and `threads` are not looked at then.
        lazy: read the ledger's rows when a statement first names something of it, and show the lake as it is then: for
        a
            single statement, asked at once. Whether the ledger is as it was sealed is looked at here in any case.

    A table of which a pinned file is missing or changed cannot be read, and says so; the others can.
    Raises VlawError: no lake there, a moment before the first commit, or a ledger that is not as it was sealed.
    """
    limits = limits or Limits(memory=memory_limit, threads=threads)
    process = SqlProcess(limits)  # it starts while the ledger is read
    try:
        from vlaw_assets.lake import sealed

        lake = opened(lake, as_of)
        sealed.check(lake.paths, lake.verified)
        query = Query(process, lake)
        if not lazy:
            query.read()
        return query
    except BaseException:
        process.close()
        raise


def opened(lake: Lake | str | Path, as_of: str | int | None) -> Lake:
    """The lake of that folder, as of that moment."""
    if isinstance(lake, str | Path):
        from vlaw_assets.lake import Lake

        lake = Lake.open(lake, create=False)
    return lake if as_of is None else lake.as_of(as_of)


def _values(column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist()
    whole = str(column.type) == "decimal128(38, 0)"  # how Arrow has DuckDB's HUGEINT
    return [int(value) if isinstance(value, decimal.Decimal) else value for value in values] if whole else values
