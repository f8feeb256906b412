"""A false S3 in this process: one object after the other, and the faults of stores and networks when they are wanted.

It knows what `Bucket` puts, reads and deletes, and no listings. Needs obstore in this environment, as all tests of
buckets do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Fault = Callable[["FalseS3", str], int]
"""What happens to a put: (store, path) -> 0 to go on as usual, or the status of its answer; it may raise or wait."""


class FalseS3:
    """A store at `endpoint`. Of a put on a condition the conditions count that are in `honours`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.honours = {"If-None-Match", "If-Match"}
        self.before: list[Fault] = []
        """One for each put to come, which is not made yet."""
        self.after: list[Fault] = []
        """One for each put to come that is made, before it is answered."""
        self.puts = 0
        self._one = threading.Lock()
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self, patch: pytest.MonkeyPatch) -> FalseS3:
        """What tells the program how to reach it."""
        if importlib.util.find_spec("obstore") is None:
            pytest.skip("obstore is not installed (the extra object-store)")
        for name, value in {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret-1f7b",
            "AWS_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        return self

    def put(self, path: str, data: bytes, conditions: dict[str, str]) -> int:
        """The status of the answer."""
        with self._one:
            self.puts += 1
            if self.before and (status := self.before.pop(0)(self, path)):
                return status
            there = self.objects.get(path)
            if "If-None-Match" in conditions and there is not None:
                return 412
            if "If-Match" in conditions and (there is None or tag(there) != conditions["If-Match"]):
                return 404 if there is None else 412
            self.objects[path] = data
            late = self.after.pop(0) if self.after else None
        return (late(self, path) if late else 0) or 200

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def tag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def after_s(seconds: float) -> Fault:
    """It takes so long."""

    def wait(_store: FalseS3, _path: str) -> int:
        time.sleep(seconds)
        return 0

    return wait


class _Handler(BaseHTTPRequestHandler):
    store: FalseS3

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        conditions = {name: self.headers[name] for name in self.store.honours if self.headers[name]}
        self._answer(self.store.put(self.path, data, conditions), tagged=data)

    def do_GET(self) -> None:
        found = self.store.objects.get(self.path)
        self._answer(404 if found is None else 200, tagged=found, body=found or b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """Of several objects: how obstore deletes."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall("<Key>(.*?)</Key>", asked)
        for key in keys:
            self.store.objects.pop(f"{self.path.partition('?')[0]}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, body=f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _answer(self, status: int, *, tagged: bytes | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        if tagged is not None:
            self.send_header("ETag", tag(tagged))
        self.send_header("Last-Modified", formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle(self) -> None:
        with suppress(ConnectionError):  # nobody waits for the answer any more
            super().handle()
