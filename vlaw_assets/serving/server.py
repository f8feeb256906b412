"""The policy server: openpi's websocket protocol (its WebsocketPolicyServer), for clients that may be faulty.

On connecting a client is sent the metadata. Then each binary message is an observation and is answered by a binary
message with `actions`; an error is a text, after which the connection is closed. GET /healthz says 200, or 503 while
the policy hangs. What goes wrong with a client ends that client's connection alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from vlaw_assets.serving.batches import Answer, Batches, request_seed
from vlaw_assets.serving.limits import Door, Limits
from vlaw_assets.serving.recorder import Kind, Recorder
from vlaw_assets.serving.served import Served, metadata
from vlaw_assets.serving.session import Counts
from vlaw_models import wire
from vlaw_models.errors import VlawError
from vlaw_models.robots.observation import read_observation

if TYPE_CHECKING:
    import socket

    from vlaw_assets.serving.session import Session

HEALTH = "/healthz"
KEPT = 100_000
"""Latest answers whose times percentiles are taken over."""
READERS = 2
"""Threads that unpack messages and resize pictures."""
_QUIET = logging.getLogger("vlaw.serving.websockets")
"""What the library says of each broken handshake is of no use to a person."""
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class NotRecordedError(Exception):
    """A message could not be written to the recording; the text says why."""


class PolicyServer:
    """Serves one policy for one session. `run` in an event loop; `stop` from that loop."""

    def __init__(
        self,
        served: Served,
        session: Session,
        batches: Batches,
        *,
        limits: Limits,
        door: Door,
        recorder: Recorder | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ):
        """`tell` is given a line about every client that comes, goes or is refused."""
        self._served, self._session, self._batches = served, session, batches
        self._limits, self._door, self._recorder, self._tell = limits, door, recorder, tell
        self._metadata = metadata(served, session, {"answer_s": limits.answer_s, "idle_s": limits.idle_s})
        self._found = dict.fromkeys(Counts.model_fields, 0)
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._scribe = ThreadPoolExecutor(1, thread_name_prefix="scribe")
        self._waiting: set[ServerConnection] = set()
        """Connections whose client has no request under way."""
        self._here = 0
        self._stopping = asyncio.Event()

    @property
    def counts(self) -> Counts:
        return Counts(**self._found)

    def latency_ms(self) -> dict[str, float]:
        """p50, p95 and max over the latest answers; empty before the first."""
        if not self._latencies:
            return {}
        p50, p95, most = np.quantile(self._latencies, [0.5, 0.95, 1.0]).round(3).tolist()
        return {"p50": p50, "p95": p95, "max": most}

    def stop(self) -> None:
        """Lets nobody in any more, answers what was asked, and ends `run`."""
        self._stopping.set()

    async def run(self, listening: socket.socket) -> None:
        """Serves until `stop`."""
        server = await serve(
            self._client,
            sock=listening,
            ssl=self._door.tls,
            origins=[None],  # a page in a browser says where it is from; robots do not
            compression=None,
            process_request=self._greet,
            server_header=None,
            max_size=self._limits.message_bytes,
            max_queue=1,
            ping_interval=20,
            ping_timeout=20,
            close_timeout=3,
            logger=_QUIET,
        )
        try:
            await self._stopping.wait()
        finally:
            server.close(close_connections=False)
            endings = (self._end(one, CloseCode.GOING_AWAY, "the server ends") for one in self._waiting)
            await asyncio.gather(*endings)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.answer_s + 5):
                    await server.wait_closed()
            self._batches.stop()
            self._readers.shutdown(cancel_futures=True)
            self._scribe.shutdown()

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers a health check and whoever may not come in; None: come in."""
        if request.path == HEALTH:
            hangs = self._batches.busy_s() > self._limits.answer_s
            status = HTTPStatus.SERVICE_UNAVAILABLE if hangs else HTTPStatus.OK
            return connection.respond(status, "the policy hangs\n" if hangs else "OK\n")
        given = request.headers.get_all("Authorization")
        if not self._door.opens_to(given[0] if len(given) == 1 else ""):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "This server asks for a token (api_key).\n")
        if self._here >= self._limits.clients or self._stopping.is_set():
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._here} clients are connected.\n")
        return None

    async def _client(self, connection: ServerConnection) -> None:
        """One client, from its first message to its last."""
        self._found["connections"] += 1
        self._here += 1
        number, begun = self._found["connections"], time.monotonic()
        self._tell(f"client {number} connected")
        asked, why = 0, "closed by the client"
        try:
            asked, why = await self._converse(connection, number)
        except Exception:  # a defect: it is this client's alone
            why = "a defect of the server"
            self._tell(traceback.format_exc())
            await self._end(connection, CloseCode.INTERNAL_ERROR, why)
        finally:
            self._here -= 1
            self._waiting.discard(connection)
            with suppress(NotRecordedError):
                await self._record(Kind.CLOSE, number, asked, why.encode())
            self._tell(f"client {number} gone after {asked} requests in {time.monotonic() - begun:.0f} s: {why}")

    async def _converse(self, connection: ServerConnection, number: int) -> tuple[int, str]:
        """Returns how many requests there were, and what ended it."""
        asked, before = 0, None
        try:
            greeting = wire.pack({**self._metadata, "latency_ms": self.latency_ms()})
            await self._record(Kind.OPEN, number, 0, greeting)
            await self._send(connection, greeting)
            while True:
                self._waiting.add(connection)
                if self._stopping.is_set():
                    await self._end(connection, CloseCode.GOING_AWAY, "the server ends")
                try:
                    async with asyncio.timeout(self._limits.idle_s):
                        message = await connection.recv()
                except TimeoutError:
                    error = f"nothing was asked for {self._limits.idle_s:g} s"
                    await self._refuse(connection, number, asked, error, CloseCode.GOING_AWAY)
                    return asked, error
                self._waiting.discard(connection)
                asked, begun = asked + 1, time.perf_counter()
                self._found["requests"] += 1
                answer, error = await self._answered(message, number, asked, before)
                if error:
                    await self._refuse(connection, number, asked, error, CloseCode.POLICY_VIOLATION)
                    return asked, error.partition("\n")[0]
                await self._send(connection, answer)
                before = time.perf_counter() - begun
                self._latencies.append(before * 1000)
                self._found["answered"] += 1
        except ConnectionClosed as closed:
            said = closed.rcvd or closed.sent
            return asked, f"{said.code} {said.reason}".strip() if said else "the connection broke"
        except NotRecordedError as error:
            await self._refuse(connection, number, asked, str(error), CloseCode.INTERNAL_ERROR)
            return asked, str(error)
        except TimeoutError:
            return asked, "the client did not take its answer"

    async def _answered(self, message: str | bytes, number: int, asked: int, before: float | None) -> tuple[bytes, str]:
        """(the answer, '') or (b'', the error for the client). Raises NotRecordedError."""
        try:
            async with asyncio.timeout(self._limits.answer_s):
                body = message.encode() if isinstance(message, str) else message
                await self._record(Kind.REQUEST, number, asked, body)
                answer = await self._ask(message, number, asked, before)
                await self._record(Kind.ANSWER, number, asked, answer)
                return answer, ""
        except TimeoutError:
            self._found["late"] += 1
            return b"", (
                f"no answer within {self._limits.answer_s:g} s\n  where:  request {asked}\n"
                "  remedy: Ask less often or from fewer robots, or serve with a higher --time-limit."
            )
        except VlawError as error:
            self._found["refused"] += 1
            return b"", str(error)
        except NotRecordedError:
            raise
        except Exception as error:  # of a policy's own code
            self._found["refused"] += 1
            self._tell(traceback.format_exc())
            return b"", f"the policy failed: {type(error).__name__}: {error}"

    async def _ask(self, message: str | bytes, number: int, asked: int, before: float | None) -> bytes:
        """The packed answer. Raises VlawError for an observation that is none."""
        if isinstance(message, str):
            raise VlawError("a text message", where="request", remedy="Send msgpack, as a binary message.")
        begun = time.perf_counter()
        observation = await asyncio.get_running_loop().run_in_executor(self._readers, self._read, message)
        seed = observation.seed
        if seed is None:
            seed = request_seed(self._session.noise_seed, number, asked)
        answer: Answer = await asyncio.wrap_future(self._batches.submit(observation, seed))
        timing: dict[str, Any] = {
            "infer_ms": (time.perf_counter() - begun) * 1000,
            "waited_ms": answer.waited_ms,
            "batch": answer.batch,
        }
        if before is not None:
            timing["prev_total_ms"] = before * 1000
        return wire.pack(
            {
                "actions": answer.actions,
                "server_timing": timing,
                "policy_timing": {"infer_ms": answer.infer_ms},
                "noise_seed": seed,
            }
        )

    def _read(self, message: bytes) -> Any:
        observation = read_observation(self._served.robot, wire.unpack(message), self._served.image_size)
        self._served.check_prompt(observation.prompt)
        return observation

    async def _send(self, connection: ServerConnection, message: str | bytes) -> None:
        """Raises TimeoutError where the client does not take it."""
        async with asyncio.timeout(self._limits.answer_s):
            await connection.send(message)

    async def _refuse(self, connection: ServerConnection, number: int, asked: int, error: str, code: CloseCode) -> None:
        """Tells a client what is wrong, as a text, and closes its connection."""
        with suppress(NotRecordedError):  # a full disk: the client hears of it all the same
            await self._record(Kind.ERROR, number, asked, error.encode())
        with suppress(ConnectionClosed, TimeoutError):
            await self._send(connection, error)
        await self._end(connection, code, "an error, see the message before")

    async def _end(self, connection: ServerConnection, code: CloseCode, reason: str) -> None:
        with suppress(ConnectionClosed):
            await connection.close(code, reason)

    async def _record(self, kind: Kind, connection: int, number: int, body: bytes) -> None:
        """Raises NotRecordedError."""
        if self._recorder is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._scribe, self._recorder.write, kind, connection, number, body)
        except OSError as error:
            raise NotRecordedError(f"the recording cannot be written: {error.strerror}") from error
