"""A page of the lake at an address of the server: nothing in it may run, whoever has written it."""

from __future__ import annotations

import asyncio

from vlaw_assets.web.lake_pictures import LakePictures

DIGEST = "ab" * 32


def asked(lake, path):
    """(status, headers, body) of a GET."""
    sent = []

    async def send(message):
        sent.append(message)

    async def other(*_arguments):
        raise AssertionError("it is for the application behind it")

    scope = {"type": "http", "method": "GET", "path": path}
    asyncio.run(LakePictures(other, lake)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_a_page_is_html_in_which_nothing_runs(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / f"{DIGEST}.html").write_text("<script>alert(1)</script>")
    status, headers, body = asked(tmp_path, f"/vlaw/pictures/{DIGEST}.html")
    assert (status, body) == (200, b"<script>alert(1)</script>")
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert headers[b"content-security-policy"].startswith(b"default-src 'none';")
    assert b"script-src" not in headers[b"content-security-policy"]
    assert asked(tmp_path, f"/vlaw/pictures/{DIGEST}.png")[0] == 404
