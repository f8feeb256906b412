"""What stands between a browser and Dagster's web server, which asks nobody who they are and executes what any page
sends.

A pure ASGI wrapper, so there is no second port behind it and nothing that two servers could read differently. It lets
through what this server's own pages send and refuses, before Dagster sees it, what another page in the same browser
could send:

- a Host that is no name of this server (a foreign name that was made to point here);
- an Origin, Referer or Sec-Fetch-Site that says another page asked; a web socket that does not say which page asked;
- any method but GET, HEAD and POST, a POST that is not JSON (a page can send a form or text without asking first), and
  a
  GraphQL operation in an address;
- two values for a header that this decides by.

No page may show this server's pages in a frame. A client that is no browser sends no Origin and may do what it likes:
there is no login (SECURITY.md). With `read_only` nothing but GraphQL queries is let through, whoever asks.
"""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

DECISIVE = ("host", "origin", "referer", "sec-fetch-site", "content-type", "content-length", "transfer-encoding")
"""Headers that may come once only."""
OWN_PAGE = ("same-origin", "none")
"""Sec-Fetch-Site of a request by this server's page, and of one that a person typed."""
PORTS = {"http": 80, "https": 443}
LARGEST = 4 * 2**20
"""Bytes of a request body that a read-only server reads."""
ALWAYS = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
"""Added to every answer."""


@dataclass(frozen=True)
class Refused(Exception):  # noqa: N818 (an answer, not an error)
    """Why a request is not let through."""

    status: int
    why: str


def origin_of(address: str) -> str | None:
    """'http://host:port' of a URL, in small letters and always with its port; None for what is no http(s) URL."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not host or parts.scheme not in PORTS or "@" in parts.netloc:
        return None
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class Guard:
    """Wraps an ASGI application; `origins` are the addresses under which browsers reach it."""

    def __init__(self, app: App, origins: Iterable[str], *, read_only: bool = False):
        self._app, self._read_only = app, read_only
        self._origins = {origin for origin in map(origin_of, origins) if origin}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            self._check(scope, headers)
            if self._read_only and scope["type"] == "http" and scope["method"] == "POST":
                receive = await _only_queries(scope, receive)
        except Refused as refused:
            await _refuse(scope, receive, send, refused)
            return
        await self._app(scope, receive, _adding(send))

    def _check(self, scope: Message, headers: dict[str, str]) -> None:
        """Raises Refused."""
        socket = scope["type"] == "websocket"
        known = self._origins | _address_of(scope)
        if not scope["path"].startswith("/"):
            raise Refused(400, "A path is expected, not an address.")
        host = headers.get("host", "")
        if not host or not {origin_of(f"{scheme}://{host}") for scheme in PORTS} & known or not _plain(host):
            raise Refused(
                403,
                f"This server is not known as {host!r}. If this is how you reach it, start it with "
                f"`vlaw ui --origin http://{host}` (https, where a proxy speaks it).",
            )
        for name in ("origin", "referer"):
            if name in headers and origin_of(headers[name]) not in known:
                raise Refused(403, f"Another page asked ({name.title()}: {headers[name]!r}).")
        if headers.get("sec-fetch-site", "none").lower() not in OWN_PAGE:
            raise Refused(403, "Another page asked (Sec-Fetch-Site).")
        if socket:
            if "origin" not in headers:
                raise Refused(403, "A web socket must say which page asks (Origin).")
            return
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refused(405, "Only GET, HEAD and POST are answered.")
        if scope["method"] == "POST":
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Refused(415, "What is sent must be JSON (Content-Type: application/json).")
        elif "graphql" in scope["path"].lower() and scope.get("query_string"):
            raise Refused(405, "GraphQL operations are taken by POST only, not in an address.")


def _headers(scope: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in DECISIVE and name in found:
            raise Refused(400, f"The header {name} came twice.")
        found[name] = value.decode("latin-1").strip()
    return found


def _plain(host: str) -> bool:
    """Whether a Host header is a name and a port and nothing else (no path, no user, no query)."""
    return urlsplit(f"//{host}").netloc == host and "@" not in host and not set(host) & set(" \t\\")


def _address_of(scope: Message) -> set[str]:
    """The address that this connection came to. Nobody can make a name of theirs of a bare address."""
    host, port = scope.get("server") or ("", None)
    return {f"http://{f'[{host}]' if ':' in host else host}:{port}"} if host and port else set()


async def _only_queries(scope: Message, receive: Receive) -> Receive:
    """Reads the body and returns what gives it again. Raises Refused unless it is GraphQL with nothing but queries."""
    from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

    if scope["path"] != "/graphql":
        raise Refused(403, "This server is read-only.")
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "The request was not finished.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST:
            raise Refused(413, "The request is too large.")
    try:
        said = json.loads(bytes(body))
        document = parse(said["query"])
    except (ValueError, TypeError, KeyError, RecursionError, GraphQLError) as error:
        raise Refused(400, "One GraphQL operation is expected, as JSON.") from error
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode) and node.operation != OperationType.QUERY:
            raise Refused(403, "This server is read-only.")
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return again


def _adding(send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *ALWAYS]}
        await send(message)

    return adding


async def _refuse(scope: Message, receive: Receive, send: Send, refused: Refused) -> None:
    if scope["type"] == "websocket":
        await receive()  # its "connect"; closed before it is accepted, so the browser gets a 403
        await send({"type": "websocket.close", "code": 1008, "reason": refused.why[:100]})
        return
    # Followed from a link elsewhere, a person needs one more click, which then comes from a page of this server.
    text = f'<p>{html.escape(refused.why)}</p><p><a href="/">Open vlaw\'s UI</a></p>'
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await _adding(send)({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text.encode()})
