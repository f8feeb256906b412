"""The other end of worker.py: asks it, and ends it when it takes too long, sends too much or goes wrong.

Nothing of what comes from a worker is held before it is known to be within the limits. The worker is started anew after
it was ended; a connection can be used on.
"""

from __future__ import annotations

import json
import os
import pickle
import selectors
import signal
import struct
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.query.limits import MOST_PARAMETERS, Limits, too_deep
from vlaw_assets.query.worker_process import Worker, how_it_ended, take_worker
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

START_S = 60.0
"""Deadline for making the views."""
MOST_NAMED = 8 << 20
"""Bytes of a frame that is not a result."""
CHUNK = 1 << 20
SMALLER = "add LIMIT, aggregate, or name fewer columns; for a whole table, `vlaw sql --attach FILE` and DuckDB itself"


class FailedError(Exception):
    """An error that the worker reported: the class of DuckDB's error, and its text."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind, self.text = kind, text


class SqlProcess:
    """One worker at a time. Not for several threads at once."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self._memory_bytes = limits.memory_bytes
        self._setup, self._made = b"", False
        self._worker: Worker | None = None
        self._end: Any = None
        self.failed: dict[str, str] = {}
        """Views that could not be made, with DuckDB's reason."""
        self._start()

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker; None where there is none now."""
        return None if self._worker is None else self._worker.pid

    def make(self, *, tables: Mapping[str, pa.Table], definitions: Mapping[str, str], paths: str) -> None:
        """Give the worker its tables and views, and the list of files it may read. Raises VlawError if it cannot be
        started."""
        self._setup = pickle.dumps(
            {
                "tables": {name: _ipc(table) for name, table in tables.items()},
                "definitions": dict(definitions),
                "paths": paths,
                "memory_bytes": self._memory_bytes,
                "threads": self.limits.threads,
            }
        )
        if self._worker is None or self._made:
            self.close()
            self._start()
        self._ready()

    def ask(self, sql: str, parameters: Mapping[str, Any], timeout_s: float, before: Callable[..., None]) -> pa.Table:
        """The result of one statement.

        Args:
            before: called as before(names in the statement, any_file=, lists=) (see admission.Admitted) before it runs;
            its time
                does not count. What it raises ends the statement.

        Raises VlawError where the statement is refused or a limit is reached, FailedError with DuckDB's error.
        """
        self.limits.check(sql)
        request = pickle.dumps({"sql": sql, "parameters": dict(parameters), "seconds": timeout_s})
        if len(request) > MOST_PARAMETERS + len(sql):
            raise VlawError(
                f"the parameters have more than {MOST_PARAMETERS} bytes", where="sql", remedy="give fewer values"
            )
        if self._worker is None:
            self._start()
            self._ready()
        begun = time.monotonic()
        try:
            return self._asked(request, begun, timeout_s, before)
        except _LateError:
            self.close()
            raise VlawError(
                f"stopped after {timeout_s:g} s",
                where="sql",
                remedy="narrow the query, or allow it more time (timeout)",
            ) from None
        except _EndedError as error:
            raise self._died(error) from None
        except (VlawError, FailedError):
            raise
        except BaseException:  # Ctrl-C, or a defect: the worker is in the middle of something
            self.close()
            raise

    def close(self) -> None:
        """End the worker."""
        if self._end is not None:
            self._end()
        self._worker = None

    @property
    def _running(self) -> Worker:
        if self._worker is None:
            raise _EndedError
        return self._worker

    def _start(self) -> None:
        worker = take_worker()
        os.set_blocking(worker.requests, False)
        self._worker, self._made = worker, False
        self._end = weakref.finalize(self, worker.end)

    def _ready(self) -> None:
        deadline = time.monotonic() + START_S
        try:
            self._made = True
            self._send(self._setup, deadline)
            self.failed = json.loads(self._frame(deadline, MOST_NAMED)[1])["failed"]
        except (_LateError, _EndedError) as error:
            status = self._running.process.poll() if isinstance(error, _EndedError) else None
            self.close()
            raise VlawError(
                f"the process for SQL did not start ({'it took too long' if status is None else how_it_ended(status)})",
                where="sql",
                remedy=f"`python -m vlaw_assets.query.worker < /dev/null` shows why; the memory limit is "
                f"{self.limits.memory}",
            ) from None

    def _asked(self, request: bytes, begun: float, timeout_s: float, before: Callable[..., None]) -> pa.Table:
        import pyarrow as pa

        deadline = begun + timeout_s
        self._send(request, deadline)
        named = json.loads(self._frame(deadline, MOST_NAMED)[1])
        waiting = time.monotonic()
        try:
            before(frozenset(named["names"]), any_file=named["any_file"], lists=named["lists"])
        except Exception:
            self._send(pickle.dumps({"seconds": 0}), waiting + START_S)
            raise
        deadline += time.monotonic() - waiting
        self._send(pickle.dumps({"seconds": max(deadline - time.monotonic(), 0.001)}), deadline)
        schema = pa.ipc.read_schema(pa.py_buffer(self._frame(deadline, MOST_NAMED)[1]))
        batches: list[pa.RecordBatch] = []
        rows, size = 0, 0
        while True:
            kind, data = self._frame(deadline, self.limits.bytes - size, "result")
            if kind == b"D":
                self._replace(json.loads(data))
                return pa.Table.from_batches(batches, schema)
            batch = pa.ipc.read_record_batch(pa.py_buffer(data), schema)
            rows += batch.num_rows
            size += len(data) + sum(map(_small, batch.columns))
            if rows > self.limits.rows:
                self.close()
                raise VlawError(f"the result has more than {self.limits.rows} rows", where="sql", remedy=SMALLER)
            if size > self.limits.bytes:
                raise self._too_large()
            batches.append(batch)

    def _send(self, message: bytes, deadline: float) -> None:
        data = memoryview(struct.pack("<q", len(message)) + message)
        pipe = self._running.requests
        while data:
            self._wait(pipe, selectors.EVENT_WRITE, deadline)
            try:
                data = data[os.write(pipe, data[:CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise _EndedError from None

    def _frame(self, deadline: float, most: int, what: str = "") -> tuple[bytes, bytes | bytearray]:
        """The next frame of at most so many bytes. Raises for a frame that is an error."""
        head = self._bytes(9, deadline)
        kind, length = bytes(head[:1]), struct.unpack("<q", head[1:])[0]
        if kind == b"E":
            self._raise(json.loads(self._bytes(min(length, MOST_NAMED), deadline)))
        if length > most:
            if what:
                raise self._too_large()
            self.close()
            raise VlawError("the statement names too much", where="sql", remedy="write it shorter")
        return kind, self._bytes(length, deadline)

    def _bytes(self, count: int, deadline: float) -> bytearray:
        data = bytearray()
        pipe = self._running.answers
        while len(data) < count:
            self._wait(pipe, selectors.EVENT_READ, deadline)
            part = os.read(pipe, min(CHUNK, count - len(data)))
            if not part:
                raise _EndedError
            data += part
        return data

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _LateError

    def _too_large(self) -> VlawError:
        self.close()
        return VlawError(f"the result has more than {self.limits.bytes >> 20} MB", where="sql", remedy=SMALLER)

    def _replace(self, said: dict[str, Any]) -> None:
        """End a worker that is of no more use; the next statement starts another."""
        if said["spent"]:
            self.close()

    def _raise(self, said: dict[str, Any]) -> None:
        self._replace(said)
        if said["kind"] == "refused":
            raise VlawError(said["what"], where=said["where"], remedy=said["remedy"])
        if said["kind"] == "RecursionError":
            raise too_deep()
        raise FailedError(said["kind"], said["what"])

    def _died(self, error: _EndedError) -> VlawError:
        """The error for a worker that ended by itself."""
        status: int | None = None
        try:
            status = self._running.process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        self.close()
        if status == -signal.SIGSEGV:
            return too_deep()
        how = "it closed its pipe" if status is None else how_it_ended(status)
        return VlawError(
            f"the statement ended the process for SQL ({how}): most likely it needs more than the memory limit, "
            f"{self.limits.memory}",
            where="sql",
            remedy="narrow the query, or allow it more memory (vlaw sql --memory, memory_limit)",
        )


class _LateError(Exception):
    """The deadline is over."""


class _EndedError(Exception):
    """The worker is gone."""


def _ipc(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _small(array: pa.Array) -> int:
    """Bytes that values take beyond those they have in Arrow, where a truth value is one bit and a NULL none: 8
    each."""
    import pyarrow as pa

    kind, count = array.type, 8 * len(array)
    if pa.types.is_struct(kind):
        return count + sum(_small(array.field(number)) for number in range(kind.num_fields))
    if pa.types.is_map(kind):
        return count + _small(array.keys) + _small(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return count + _small(array.values)
    if pa.types.is_union(kind):
        return count + sum(_small(array.field(number)) for number in range(kind.num_fields))
    return count
