"""Lakes in a folder and lakes in a bucket for the same tests, and the S3 server that the buckets are in.

The server is moto's, in a process of its own, one request after the other (moto looks and then writes: two threads of
it would both win). It needs `moto[server]` in this environment or in that of VLAW_MOTO_PYTHON, and obstore in this one;
without them the tests of buckets are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vlaw_assets.lake import Lake
from vlaw_assets.lake.copies import THERE
from vlaw_assets.lake.objects import Bucket
from vlaw_assets.lake.upkeep.verify import anew

STORES = ["folder", pytest.param("bucket", marks=pytest.mark.slow)]
BUCKET = "lab-1"
_SERVER = """
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
print(server.port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of a server with the bucket BUCKET; the environment says how to reach it."""
    python = os.environ.get("VLAW_MOTO_PYTHON")
    if importlib.util.find_spec("obstore") is None:
        pytest.skip("obstore is not installed (the extra object-store)")
    if python is None and importlib.util.find_spec("moto") is None:
        pytest.skip("no S3 server: install moto[server], here or in the environment of VLAW_MOTO_PYTHON")
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(
        [python or sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=alone
    )
    assert process.stdout is not None
    port = process.stdout.readline().decode().strip()
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret-1f7b",
            "AWS_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).read()
        yield endpoint
    process.kill()
    process.wait()


class Place:
    """Where one lake is, and hosts that open it. With a bucket each host has copies of its own."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        self.address = f"s3://{BUCKET}/{uuid.uuid4().hex}" if kind == "bucket" else str(folder / "lake")

    def open(self, host: str = "here", *, create: bool = True) -> Lake:
        if self.kind == "folder":
            return Lake.open(self.address, create=create)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VLAW_LAKE_COPY", str(self.folder / host))
            return Lake.open(self.address, create=create)


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "bucket":
        request.getfixturevalue("s3")
    return Place(request.param, tmp_path)


class Image:
    """Files that are kept the same as the objects of a bucket, for tests that lay hands on files."""

    def __init__(self, root: Path, bucket: Bucket):
        self.root, self.bucket = root, bucket
        self._theirs: dict[str, str] = {}
        self._ours: dict[str, bytes] = {}

    def sync(self) -> None:
        """What changed in the bucket since the last time changes here; then what changed here changes there."""
        there = {item.name: item for item in self.bucket.names() if not item.name.startswith("locks/")}
        for name in self._theirs.keys() - there.keys():
            (self.root / name).unlink(missing_ok=True)
        for name, item in there.items():
            if self._theirs.get(name) != item.tag:
                found = self.bucket.get(name)
                assert found is not None
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_bytes(found[0])
                self._ours[name] = found[0]
        here = {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and path.relative_to(self.root).parts[0] in THERE
        }
        self.bucket.delete(self._ours.keys() - here.keys())
        for name, data in here.items():
            if self._ours.get(name) != data:
                self.bucket.put(name, data)
        self._ours = here
        self._theirs = {item.name: item.tag for item in self.bucket.names() if not item.name.startswith("locks/")}


IMAGES: dict[Path, Image] = {}


def imaged(root: Path) -> None:
    """Make the files of a lake the objects of a new bucket lake; from then on `opened` and `read_anew` mean that."""
    IMAGES[root] = Image(root, Bucket(f"s3://{BUCKET}/{uuid.uuid4().hex}"))
    IMAGES[root].sync()


@contextmanager
def read_anew(root: Path) -> Iterator[Lake]:
    """The lake of these files as they are, by a host that has seen nothing of it yet."""
    image = IMAGES.get(root)
    if image is None:
        yield Lake.open(root, create=False)
        return
    image.sync()
    with anew(Lake, image.bucket.address, root.parent) as lake:
        yield lake
    image.sync()
