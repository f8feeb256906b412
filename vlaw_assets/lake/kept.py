"""Rows of the ledger that were read before, kept outside the lake, so that a fresh process need not parse a long log
again.

One file per table and lake in the user's cache folder (see verified.py): derived, disposable, and never trusted over
the log. A row is served only while the log entry that it came from has the fingerprint it was read with (device, inode,
size, mtime, ctime), each entry looked at anew; an entry that is new or was touched is read from the log, as if nothing
were kept. The file is of one lake only, and of one past of it: it names the sealed version that it was made at, whose
line of `ledger.chain` must still be there. It carries a digest of itself: one that is cut off or garbled serves
nothing.

What it takes on trust is what verified.py does: the clock and the disk of this machine, and the user whose cache it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog, seal
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.verified import RACY_NS, memory_of, read_own, write_own
from vlaw_models.errors import VlawError

LEAST = 64
"""A log of fewer entries is read as quickly as what was kept of it."""
SHARE = 16
"""What is kept is written anew when one entry in so many is not in it."""
MOST_BYTES = 1 << 30

Row = tuple[list[Any], "Texts"]
"""Plain values (str, int or None) in the order of the columns, and the long texts beside them."""


@dataclass(slots=True)  # not frozen: that takes twice as long to make, and there is one per row
class Texts:
    """The long texts of one row: decoded when they are asked for, since few of them are."""

    of_all: bytes
    """Those of all rows."""
    begin: int
    lengths: tuple[int, ...]

    def __getitem__(self, number: int) -> str:
        begin = self.begin + sum(self.lengths[:number])
        return self.of_all[begin : begin + self.lengths[number]].decode()


class Kept:
    """What is kept of one table's log. The log is looked at when it is made: only what it has by then can be kept."""

    def __init__(self, paths: Paths, name: str, columns: Sequence[str], texts: Sequence[str] = ()):
        """`columns`, `texts`: names of the values and of the long texts; what was kept of others is of no use."""
        self._paths, self._columns = paths, [list(columns), list(texts)]
        memory = memory_of(paths.root)
        self._file = memory and memory.with_name(f"ledger-{memory.name.rpartition('-')[2]}-{name}")
        self._now: dict[int, list[int]] = {}
        self.rows: dict[int, list[Row]] = {}
        """Version -> the rows that its log entry brought, of every entry that is as it was when it was read."""
        if self._file and deltalog.entry_path(paths.table(name), LEAST).exists():
            self._now = _fingerprints(paths.table(name) / "_delta_log")
            self.rows = self._read(self._file) if self._now else {}

    @property
    def nearly_all(self) -> bool:
        """Whether what is not in it is too little to write it anew."""
        return len(self._now) - len(self.rows) <= self._few

    @property
    def _few(self) -> int:
        return max(LEAST, len(self._now) // SHARE)

    def keep(self, fresh: Mapping[int, Callable[[], Iterable[tuple[list[Any], Sequence[str]]]]]) -> None:
        """Note what was read from the log since this object was made: version -> its rows, as (values, texts).

        Only saves work: where it cannot be noted, nothing is said.
        """
        if self._file is None or len(fresh) < self._few:
            return
        settled = time.time_ns() - RACY_NS
        try:
            sealed = seal.read(self._paths)
            entries, texts, length = [], [], 0
            for version in sorted({*self.rows, *fresh}):
                about = self._now.get(version)
                if about is None or version > sealed["version"] or about[-1] >= settled:
                    continue
                rows = []
                for values, long in fresh[version]() if version in fresh else self.rows[version]:
                    encoded = [long[number].encode() for number in range(len(self._columns[1]))]
                    rows.append([values, length, [len(text) for text in encoded]])
                    texts += encoded
                    length += sum(map(len, encoded))
                entries.append([version, about, rows])
            head = json.dumps({"sealed": sealed, "columns": self._columns, "entries": entries}, separators=(",", ":"))
            body = b"".join([head.encode(), b"\n", *texts])
            write_own(self._file, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except (OSError, VlawError, TypeError, ValueError):
            return

    def _read(self, file: Path) -> dict[int, list[Row]]:
        data = read_own(file, MOST_BYTES)
        begin = data.find(b"\n") + 1
        if data[: begin - 1] != hashlib.sha256(memoryview(data)[begin:]).hexdigest().encode():
            return {}
        end = data.find(b"\n", begin)
        head = json.loads(data[begin:end])
        if head["columns"] != self._columns or not _in_chain(self._paths, head["sealed"]):
            return {}
        none = Texts(b"", 0, ())
        return {
            version: [
                (values, Texts(data, end + 1 + first, tuple(lengths)) if lengths else none)
                for values, first, lengths in rows
            ]
            for version, about, rows in head["entries"]
            if self._now.get(version) == about
        }


def _fingerprints(log: Path) -> dict[int, list[int]]:
    """Version -> fingerprint of its log entry."""
    found = {}
    with suppress(OSError), os.scandir(log) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".json") and name[:-5].isdigit():
                about = entry.stat()
                found[int(name[:-5])] = [
                    about.st_dev,
                    about.st_ino,
                    about.st_size,
                    about.st_mtime_ns,
                    about.st_ctime_ns,
                ]
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
