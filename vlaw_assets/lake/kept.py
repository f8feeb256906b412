"""Rows of the ledger that were read before, kept outside the lake, so that a fresh process need not parse a long log again.

One file per table and lake in the user's cache folder (see verified.py): derived, disposable, and never trusted over the
log. A row is served only while the log entry that it came from has the fingerprint it was read with (device, inode, size,
mtime, ctime), each entry looked at anew; an entry that is new or was touched is read from the log, as if nothing were kept.
The file is of one lake only, and of one past of it: it names the sealed version that it was made at, whose line of
`ledger.chain` must still be there. It carries a digest of itself: one that is cut off or garbled serves nothing.

What it takes on trust is what verified.py does: the clock and the disk of this machine, and the user whose cache it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog, seal
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.verified import RACY_NS, memory_of, read_own
from vlaw_models.errors import VlawError

LEAST = 64
"""A log of fewer entries is read as quickly as what was kept of it."""
SHARE = 16
"""What is kept is written anew when one entry in so many is not in it."""
MOST_BYTES = 1 << 30

Values = list[Any]
"""Plain values of one row: str, int or None."""


class Kept:
    """What is kept of one table's log. The log is looked at when it is made: only what it has by then can be kept."""

    def __init__(self, paths: Paths, name: str, columns: tuple[str, ...]):
        """`columns`: names of the values; what was kept of others is of no use."""
        self._paths, self._columns = paths, list(columns)
        memory = memory_of(paths.root)
        self._file = memory and memory.with_name(f"ledger-{memory.name.rpartition('-')[2]}-{name}.json")
        self._now: dict[int, tuple[int, ...]] = {}
        if self._file and deltalog.entry_path(paths.table(name), LEAST).exists():
            self._now = _fingerprints(paths.table(name) / "_delta_log")
        self._then = self._read() if self._now else {}

    def rows(self) -> dict[int, list[Values]]:
        """Version -> the rows that its log entry brought, of every entry that is as it was when it was read."""
        return {version: rows for version, (print_, rows) in self._then.items() if self._now.get(version) == print_}

    def keep(self, fresh: dict[int, list[Values]]) -> None:
        """Note what was read from the log since this object was made. Only saves work: where it fails, nothing is said."""
        if self._file is None or len(fresh) < max(LEAST, len(self._now) // SHARE):
            return
        settled = time.time_ns() - RACY_NS
        try:
            sealed = seal.read(self._paths)
            entries = [[version, self._now[version], rows] for version, rows in sorted({**self.rows(), **fresh}.items())
                       if version in self._now and version <= sealed["version"] and self._now[version][-1] < settled]
            body = json.dumps({"sealed": sealed, "columns": self._columns, "entries": entries}, separators=(",", ":")).encode()
            _write(self._file, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except (OSError, VlawError, TypeError, ValueError):
            return

    def _read(self) -> dict[int, tuple[tuple[int, ...], list[Values]]]:
        digest, _, body = read_own(self._file, MOST_BYTES).partition(b"\n")
        if digest != hashlib.sha256(body).hexdigest().encode():
            return {}
        found = json.loads(body)
        if found["columns"] != self._columns or not _in_chain(self._paths, found["sealed"]):
            return {}
        return {version: (tuple(print_), rows) for version, print_, rows in found["entries"]}


def _fingerprints(log: Path) -> dict[int, tuple[int, ...]]:
    """Version -> fingerprint of its log entry."""
    found = {}
    with suppress(OSError), os.scandir(log) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".json") and name[:-5].isdigit():
                about = entry.stat()
                found[int(name[:-5])] = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return found


def _in_chain(paths: Paths, sealed: dict[str, Any]) -> bool:
    """Whether the chain still has the line that was its last when this was sealed."""
    try:
        with paths.chain.open("rb") as file:
            file.seek(max(0, sealed["length"] - seal.LAST_LINES))
            last = json.loads(file.read(sealed["length"] - file.tell()).splitlines()[-1])
        return (last["version"], last["chain"]) == (sealed["version"], sealed["chain"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def _write(path: Path, data: bytes) -> None:
    """Replace a file of the cache at once, for this user's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
