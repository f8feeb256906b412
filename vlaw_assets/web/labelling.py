"""A small server for one page whose buttons label episodes: on this machine alone, behind the guard, with a token.

The address holds a token that is drawn anew for each server: whoever does not know it is given nothing. The guard
refuses what another page in the same browser could send.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from vlaw_assets.web import server
from vlaw_assets.web.guard import Message, Receive, Send
from vlaw_models.errors import VlawError

HOST = "127.0.0.1"
LARGEST = 64 * 2**10
"""Bytes of a label that is sent."""
FIELDS = ("episode_id", "label", "why")
Label = Callable[[str, str, str], dict[str, Any]]
"""(episode id, label, why) -> what the page shows of it. Raises VlawError."""


@dataclass
class Labelling:
    """An ASGI application: GET /TOKEN/ is the page, POST /TOKEN/label takes {episode_id, label, why} as JSON."""

    page: bytes
    known: Collection[str]
    """Ids of the episodes on the page: no other is labelled."""
    label: Label
    token: str

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given, _, rest = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            await _answer(send, HTTPStatus.NOT_FOUND, {"error": "There is nothing here: the address has no token."})
        elif scope["method"] in ("GET", "HEAD") and not rest:
            await _send(send, HTTPStatus.OK, b"text/html; charset=utf-8", self.page)
        elif scope["method"] == "POST" and rest == "label":
            await _answer(send, *await self._labelled(receive))
        else:
            await _answer(send, HTTPStatus.NOT_FOUND, {"error": "There is no such page."})

    async def _labelled(self, receive: Receive) -> tuple[HTTPStatus, dict[str, Any]]:
        try:
            said = json.loads(await _body(receive))
            episode, label, why = (said[name] for name in FIELDS)
        except (ValueError, TypeError, KeyError, RecursionError):
            return HTTPStatus.BAD_REQUEST, {"error": f"JSON with {', '.join(FIELDS)} is expected."}
        if not all(isinstance(value, str) for value in (episode, label, why)) or episode not in self.known:
            return HTTPStatus.BAD_REQUEST, {"error": "That is no episode of this page."}
        try:
            return HTTPStatus.OK, await asyncio.to_thread(self.label, episode, label, why)
        except VlawError as error:
            return HTTPStatus.CONFLICT, {"error": f"{error.what}. {error.remedy}"}


def listen(port: int) -> tuple[socket.socket, str]:
    """A socket on this machine alone (port 0: any free one), and a new token. Raises VlawError."""
    return server.listen(HOST, port), secrets.token_urlsafe(32)


def address(listening: socket.socket, token: str) -> str:
    return f"http://{HOST}:{listening.getsockname()[1]}/{token}/"


def serve(app: Labelling, listening: socket.socket) -> None:
    """Answers until this process is interrupted or terminated."""
    port = listening.getsockname()[1]
    with suppress(KeyboardInterrupt):
        server.guarded(app, [f"http://{name}:{port}" for name in (HOST, "localhost")]).run(sockets=[listening])


async def _body(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > LARGEST or message["type"] != "http.request":
            raise ValueError("too large, or not finished")
    return bytes(body)


async def _answer(send: Send, status: HTTPStatus, value: dict[str, Any]) -> None:
    await _send(send, status, b"application/json", json.dumps(value, default=str).encode())


async def _send(send: Send, status: HTTPStatus, kind: bytes, body: bytes) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"same-origin"),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
