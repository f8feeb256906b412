"""The process in which SQL runs: `python -m vlaw_assets.query.worker`, started by process.py and talking to it alone.

It is given the views, makes them, locks DuckDB, limits itself, and then answers one statement after the other. Here
nothing is trusted to end: a statement may hang, take all memory or crash the process. The parent ends it at the
deadline, and the kernel does if the parent is gone. It opens no lake and knows no ledger; it can read the files it was
told of and write none.

Messages to it are pickles (from its own parent), after 8 bytes with their length. Its answers are frames: a letter, 8
bytes with the length, and the rest: N (JSON: what the statement names), S (an Arrow schema), B (a record batch), D
(JSON: done) or E (JSON: an error). The last two say whether it has grown too large for the next statement (an allocator
seldom gives memory back): then it should be replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from vlaw_assets.query.admission import TOO_DEEP, admit
from vlaw_models.errors import VlawError

BATCH_ROWS = 8192
MOST_FILES = 1 << 16
SPARE_BYTES = 256 << 20
"""Address space beyond the memory limit: for what DuckDB does not count (parsing, constants, results on their way
out)."""
SPARE_S = 1.0
"""How long after its deadline a worker ends by itself, if nobody did it."""
LONGEST_ERROR = 4000

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


class _GoneError(Exception):
    """The parent closed its end."""


class Worker:
    """The pipe to the parent, and the locked connection."""

    def __init__(self, inlet: int, outlet: int):
        self._inlet, self._outlet = os.fdopen(inlet, "rb"), os.fdopen(outlet, "wb", buffering=1 << 20)

    def run(self) -> None:
        """Answer until the parent is gone."""
        setup = self._receive()
        self._connection, failed = _opened(setup)
        self._most = _mapped() + setup["memory_bytes"] // 4
        _limit(setup["memory_bytes"])
        self._send(b"N", {"failed": failed})
        while True:
            request = self._receive()
            _alarm(request["seconds"])
            try:
                self._answer(request)
            except VlawError as error:
                self._fail("refused", error.what, where=error.where, remedy=error.remedy)
            except RecursionError:
                self._fail("RecursionError", "")
            except MemoryError:
                self._fail("OutOfMemoryException", "out of memory")
            except (ValueError, NotImplementedError) as error:  # Arrow's errors are such
                self._fail("result", _text(error))
            _alarm(0)

    def _answer(self, request: dict[str, Any]) -> None:
        admitted = admit(self._connection, request["sql"])
        bound = _bound(admitted.statement, request["parameters"])
        self._send(b"N", {"names": sorted(admitted.names), "any_file": admitted.any_file, "lists": admitted.lists})
        _alarm(0)  # the parent hashes files now, which may take its time
        go = self._receive()
        if not go["seconds"]:
            return
        _alarm(go["seconds"])
        try:
            self._begin()
            result: Any = self._connection.execute(admitted.statement, bound).to_arrow_reader(BATCH_ROWS)
            schema = _plain_schema(result.schema)
            self._send(b"S", schema.serialize())
            for batch in result:
                self._send(b"B", (batch if schema == result.schema else batch.cast(schema)).serialize())
            self._send(b"D", {"spent": _mapped() > self._most})
        except duckdb.Error as error:
            self._fail("RecursionError" if TOO_DEEP in str(error) else type(error).__name__, _text(error))

    def _begin(self) -> None:
        """A transaction in which nothing can be written, whatever was admitted; it ends with the next query."""
        with contextlib.suppress(duckdb.TransactionException):  # there is none before the first query
            self._connection.rollback()
        self._connection.execute("BEGIN TRANSACTION READ ONLY")

    def _receive(self) -> dict[str, Any]:
        head = self._inlet.read(8)
        if len(head) < 8:
            raise _GoneError
        return pickle.loads(self._inlet.read(struct.unpack("<q", head)[0]))

    def _send(self, kind: bytes, content: dict[str, Any] | pa.Buffer | bytes) -> None:
        data = memoryview(json.dumps(content).encode() if isinstance(content, dict) else content)
        self._outlet.write(kind + struct.pack("<q", data.nbytes))
        self._outlet.write(data)
        self._outlet.flush()

    def _fail(self, kind: str, what: str, **more: str) -> None:
        self._send(
            b"E",
            {"kind": kind, "what": what, **more, "spent": kind == "OutOfMemoryException" or _mapped() > self._most},
        )


def _opened(setup: dict[str, Any]) -> tuple[duckdb.DuckDBPyConnection, dict[str, str]]:
    """A locked connection with these tables and views, and the views that could not be made, with the reason."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{setup['memory_bytes'] // 1000}KB",
            "threads": setup["threads"],
            "python_enable_replacements": "false",
        },
    )
    for name, data in setup["tables"].items():
        connection.register("given", pa.ipc.open_stream(data).read_all())
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        connection.unregister("given")
    failed = {}
    for name, definition in setup["definitions"].items():
        try:
            connection.execute(definition)
        except duckdb.Error as error:
            failed[name] = _text(error)
    for statement in _LOCKS:
        connection.execute(statement.format(paths=setup["paths"]))
    return connection, failed


def _limit(memory_bytes: int) -> None:
    """No more address space than now and the memory limit, no file written, no core dumped; kept by the kernel."""
    for what, most in (
        (resource.RLIMIT_AS, _mapped() + memory_bytes + SPARE_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(
            ValueError, OSError
        ):  # a system without that limit: DuckDB's own and the deadline remain
            resource.setrlimit(what, (allowed, allowed))
    # As many open files as may be: DuckDB holds one per file of a query.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES), hard)
        )


def _mapped() -> int:
    """Bytes of this process's address space; a gigabyte on systems that do not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30


def _alarm(seconds: float) -> None:
    """The kernel ends this process then, whatever it is doing; 0: never."""
    signal.setitimer(signal.ITIMER_REAL, seconds + SPARE_S if seconds else 0)


def _bound(statement: duckdb.Statement, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    names = set(statement.named_parameters)
    if set(parameters) - names:
        raise VlawError(
            f"the SQL has no parameter {', '.join(sorted(set(parameters) - names))}",
            where="sql",
            remedy=f"its parameters are: {', '.join(sorted(names)) or 'none'}",
        )
    return {**dict.fromkeys(names), **parameters} if names else None


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Without dictionaries, in which few bytes stand for many (DuckDB gives an ENUM as one)."""
    return pa.schema(
        [
            pa.field(
                field.name,
                field.type.value_type if pa.types.is_dictionary(field.type) else _checked(field.type),
                field.nullable,
            )
            for field in schema
        ]
    )


def _checked(kind: pa.DataType) -> pa.DataType:
    for number in range(kind.num_fields):
        if pa.types.is_dictionary(kind.field(number).type):
            raise NotImplementedError("a list or struct of ENUM: cast it to VARCHAR")
        _checked(kind.field(number).type)
    return kind


def _text(error: Exception) -> str:
    text = str(error).strip()
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]} ..."


def _die_with(parent: int) -> None:
    """Linux ends this process when the thread that started it ends; others notice at the next message, or at the
    deadline."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Arguments: the parent's process number, if that is to be watched."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if len(sys.argv) > 1:
        _die_with(int(sys.argv[1]))
    # The pipe moves away from where a library might print to.
    inlet, outlet = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(_GoneError, BrokenPipeError):
        Worker(inlet, outlet).run()
    os._exit(0)  # nothing here needs to be put in order, and taking DuckDB down takes time


if __name__ == "__main__":
    main()
