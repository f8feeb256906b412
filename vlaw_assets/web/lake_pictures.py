"""The lake's pictures and pages at an address of the server, so that asset pages show them whole and without a click.

`/vlaw/pictures/<sha256>.png`, and `.svg`: the same inside a drawing without a width of its own, which a browser makes
as wide as there is room; `.html` is a page, in which nothing may run or load. For reading only. A name that is no
digest is none of these: nothing else of the disk has an address.
"""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.pipeline.mirror import PICTURES

if TYPE_CHECKING:
    from vlaw_assets.web.guard import App, Message, Receive, Send

_ADDRESS = re.compile(re.escape(PICTURES) + r"/([0-9a-f]{64})\.(png|svg|html)")
_KINDS = {"png": b"image/png", "svg": b"image/svg+xml", "html": b"text/html; charset=utf-8"}
_NOTHING_RUNS = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; "
    b"form-action 'none'"
)
"""A page of a lake is shown beside Dagster's own pages, so it must not act in their name."""
_FOR_EVER = b"private, max-age=31536000, immutable"
"""What has a digest for a name does not change."""


def fitting(png: bytes) -> bytes:
    """An SVG with the picture in it, that has a shape and no size."""
    width, height = struct.unpack(">II", png[16:24])
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<image width="{width}" height="{height}" href="data:image/png;base64,{data}"/></svg>'
    ).encode()


class LakePictures:
    """Wraps an ASGI application; `lake` is the lake's folder."""

    def __init__(self, app: App, lake: Path):
        from vlaw_assets.lake.paths import Paths

        self._app, self._paths = app, Paths(lake.expanduser().absolute())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        found = _ADDRESS.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        from vlaw_assets.lake.pictures import PNG, path_of

        try:
            status, kind = 200, _KINDS[found[2]]
            body = path_of(self._paths, found[1], PNG if found[2] == "svg" else found[2]).read_bytes()
            if found[2] == "svg":
                body = fitting(body)
        except (OSError, struct.error):
            status, kind, body = 404, b"text/plain; charset=utf-8", b"the lake has no such picture or page"
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", _FOR_EVER if status == 200 else b"no-store"),
            (b"content-security-policy", _NOTHING_RUNS),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
