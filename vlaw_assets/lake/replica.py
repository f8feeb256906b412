"""A lake on an object store, and the folder in which this host works on it.

The objects are the lake: under the names, and with the bytes, that its files have in a folder. The folder at hand is a
copy of those of them that this host has needed, in the user's cache; it may be deleted. What reads a lake reads files
there, after they were fetched and held against the digest that the ledger has. What makes a file last (durable.py) puts
it into the bucket as well, and what gives a name to one of several who want it (a log entry, a version, the seal) does
so there, by a put on a condition. So there is one lake format and one code for both places; this module, copies.py and
what they stand on are all that differs.

Of this host alone is what is not in `copies.THERE`: locks, drafts, states of trainings, sessions. (Leases of all hosts
are objects below the name `locks`.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from vlaw_assets.lake.copies import Copies, Moved, write
from vlaw_assets.lake.lease import Lease
from vlaw_assets.lake.objects import About, Bucket
from vlaw_models.errors import VlawError

__all__ = ["Moved", "Replica", "closed", "folder_of", "need", "of", "opened"]

FRESH_S = 1.0
"""What others commit is seen after so long, by who only reads."""
MARK = ".replica.json"
"""In the folder: which lake it is a copy of."""
_ENTRY = re.compile(r"\d{20}\.json")


class Replica(Copies):
    """One lake's objects, and the folder of copies: what is new there comes here."""

    def __init__(self, root: Path, bucket: Bucket):
        super().__init__(root, bucket)
        self._seen: dict[str, float] = {}
        """When a log was last asked for what is new."""
        self._threads = threading.RLock()
        self._lock = filelock.FileLock(root.with_name(f"{root.name}.lock"), thread_local=False)

    def stale(self) -> None:
        """The next look asks the bucket, however short ago the last one was."""
        self._seen.clear()

    def refresh(self, *, now: bool = False) -> None:
        """Have the seal and the log of `artifacts` here as the bucket has them.

        Raises VlawError if the bucket's ledger is older than the one that was here.
        """
        if not self._due("ledger.seal", now=now):
            return
        with self.alone():
            sealed = self.bucket.get("ledger.seal", most=1 << 16)
            self.pull_log(self.root / "delta" / "artifacts", now=True)  # what the seal covers is in it by now
            if sealed is None:
                (self.root / "ledger.seal").unlink(missing_ok=True)
                self._tags.pop("ledger.seal", None)
                return
            if self._tags.get("ledger.seal") != sealed[1].tag or not _holds(self.root / "ledger.seal", sealed[0]):
                before, after = _version(self.root / "ledger.seal"), _version_of(sealed[0])
                if before is not None and after is not None and after < before:
                    raise VlawError(
                        f"the bucket's ledger ends at version {after}, and this host has seen version {before}",
                        where=self.bucket.address,
                        remedy=f"restore the newer lake; if the older one is right, delete the copy {self.root}",
                    )
                chain = self.bucket.get("ledger.chain")
                if chain is None:
                    (self.root / "ledger.chain").unlink(missing_ok=True)
                    self._tags.pop("ledger.chain", None)
                else:
                    self._tags["ledger.chain"] = chain[1].tag
                    write(self.root / "ledger.chain", chain[0])
                self._tags["ledger.seal"] = sealed[1].tag
                write(self.root / "ledger.seal", sealed[0])

    def pull_log(self, table: Path, *, now: bool = False) -> None:
        """Have the entries of a Delta log here that are newer than those that are. The newest of a log that lost it
        goes here too, so that it is missed."""
        log = table / "_delta_log"
        folder = self.name(log)
        if not self._due(folder, now=now):
            return
        log.mkdir(parents=True, exist_ok=True)
        here = {name for name in os.listdir(log) if _ENTRY.fullmatch(name)}  # there may be later ones that were read
        whole = next(number for number in range(len(here) + 1) if f"{number:020d}.json" not in here)
        after = f"{folder}/{whole - 2:020d}.json" if whole > 1 else ""
        found = {item.name: item for item in self.bucket.names(folder, after=after) if _ENTRY.fullmatch(_last(item))}
        if whole > 1 and f"{folder}/{whole - 1:020d}.json" not in found:
            (log / f"{whole - 1:020d}.json").unlink(missing_ok=True)
        self._bring([item for item in found.values() if not self.path(item.name).exists()])

    def pull_table(self, uri: Path) -> None:
        """Have the newest version of a Lance table here, and what its first version consists of: enough to append."""
        folder = self.name(uri)
        versions = self.bucket.names(f"{folder}/_versions")
        manifests = [item for item in versions if item.name.endswith(".manifest")]
        if not manifests:
            return
        wanted = [manifests[0], manifests[-1]]  # they count down
        hints = [item for item in versions if _last(item) == "latest_version_hint.json"]
        for item in hints:
            self.path(item.name).unlink(missing_ok=True)
        wanted += hints
        if not (uri / "_refs" / "tags" / "created.json").exists():
            wanted += [item for item in self.bucket.names(f"{folder}/_transactions") if _last(item).startswith("0-")]
            wanted += [item for item in self.bucket.names(f"{folder}/_refs") if _last(item) == "created.json"]
        (uri / "data").mkdir(parents=True, exist_ok=True)
        self._bring([item for item in wanted if not self.path(item.name).exists()])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process of this host changes the folder's copies of what changes meanwhile."""
        with self._threads, self._lock:
            yield

    def lease(self, path: Path) -> Lease:
        """The lease that stands for a lock of this lake."""
        return Lease(self.bucket, f"locks/{path.name.removesuffix('.lock')}.lease")

    def _due(self, what: str, *, now: bool) -> bool:
        time_now = time.monotonic()
        if not now and time_now - self._seen.get(what, -FRESH_S) < FRESH_S:
            return False
        self._seen[what] = time_now
        return True


_REPLICAS: dict[Path, Replica] = {}


def of(path: Path) -> Replica | None:
    """The replica that a file or folder belongs to; None for those of a lake in a folder."""
    if not _REPLICAS:
        return None
    opened_here = tuple(_REPLICAS.items())  # another thread may open one meanwhile
    return next((copy for root, copy in opened_here if path.is_relative_to(root)), None)


def need(root: Path, files: Iterable[Mapping[str, Any]]) -> None:
    """Of a lake in a bucket: have files here that are recorded as {path, size, sha256}. Raises VlawError for the first
    that is not as recorded."""
    copy = of(root)
    for path, text in (copy.fetch(files) if copy else {}).items():
        raise VlawError(f"data file: {text}", where=str(root / path), remedy="restore it from a backup")


def opened(path: str | Path, root_of: Callable[[str], Path]) -> Replica | None:
    """The replica of an address, or of a folder that is one; None for another folder. `root_of`: address -> folder."""
    text = str(path)
    if not text.startswith("s3://"):
        mark = Path(text).expanduser().absolute() / MARK
        try:
            text = str(json.loads(mark.read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        root = mark.parent
    else:
        root = root_of(Bucket(text).address)
    bucket = Bucket(text)
    found = _REPLICAS.get(root)
    if found is None or found.bucket.address != bucket.address:
        found = _REPLICAS[root] = Replica(root, bucket)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("locks", "tmp", "checkpoints", "pictures"):
        (root / folder).mkdir(exist_ok=True)
    if not (root / MARK).exists():
        write(root / MARK, json.dumps({"address": bucket.address}).encode())
    return found


def closed(copy: Replica) -> None:
    """Forget a replica whose folder is about to go."""
    _REPLICAS.pop(copy.root, None)


def folder_of(address: str) -> Path:
    """Where this host keeps its copy: VLAW_LAKE_COPY, or a folder of the user's cache."""
    given = os.environ.get("VLAW_LAKE_COPY")
    base = os.environ.get("XDG_CACHE_HOME") or ""
    cache = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "vlaw" / "lakes"
    own = hashlib.sha256(address.encode()).hexdigest()[:32]
    return (Path(given).expanduser().absolute() if given else cache) / own


def _last(item: About) -> str:
    return item.name.rpartition("/")[2]


def _holds(path: Path, data: bytes) -> bool:
    with suppress(OSError):
        return path.read_bytes() == data
    return False


def _version(path: Path) -> int | None:
    with suppress(OSError):
        return _version_of(path.read_bytes())
    return None


def _version_of(data: bytes) -> int | None:
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(data)["version"])
    return None
