"""The log of a Delta table as plain JSON files: what each commit added, who made it, in which order; and appending to
it.

A log is read here, because after a compaction the table has other files, and only its log tells which commit brought
which row. It is appended to here, because delta-rs's transaction over files that are already written
(`DeltaTable.create_write_transaction`, 1.6) lacks what the ledger stands on:

- Durability: the entry gets its name before its bytes are on the disk, and is never flushed. After a power cut a
  version can be there and empty, with others built on it. Here an entry has a name when its bytes are on the disk.
- The version: the transaction returns none, and leaves that of its table object behind.
- No number twice: one that was lost is given again, and a transaction cannot be told which versions there were.
- Cost: opening or updating a table takes time in proportion to its files and to the entries since its last checkpoint.
  After 500 commits one more takes 19 times the CPU time of one here, 6 times with a checkpoint every 10 versions.

tests/lake/test_delta_transactions.py shows the first three with delta-rs itself, benchmarks/appends.py the last. All
else (creation, checkpoints, compaction, deletes, other readers) is delta-rs's, to whom these are ordinary tables. The
log is complete: tables of a lake never let entries expire.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vlaw_assets.lake import disk, replica
from vlaw_assets.lake.durable import fsync_path, take_name
from vlaw_models.errors import VlawError

ENTRIES = "[0-9]" * 20 + ".json"
"""The names of log entries; a checkpoint of another program may end with .json too."""

_REMEDY = "restore it from a backup; `vlaw audit ... --verify` names all that is damaged"
RESTORE = (
    "restore the lake from a backup, whole; or accept the loss: `vlaw migrate --reseal` restores rows whose "
    "data files are there"
)
"""For the ledger's own table."""


@dataclass(frozen=True)
class Entry:
    """One commit to a Delta table."""

    version: int
    path: Path
    info: dict[str, Any]
    """`commitInfo`: what the writer says about itself."""
    added: tuple[Path, ...]
    removed: tuple[Path, ...]
    changes_data: bool
    """False for compaction and for changes of the schema."""
    sizes: dict[Path, int]
    """Bytes of each added file."""


def entry_path(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def read_entry(table: Path, version: int, *, sha256: str = "") -> Entry:
    """One entry. Raises VlawError naming the file if it is missing or damaged, FileNotFoundError never.

    `sha256`: what the ledger says of the file, if it does; it is held against the very bytes that are read.
    """
    path = entry_path(table, version)
    if copy := replica.of(path):
        copy.want(path)
    try:
        data = path.read_bytes()
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise VlawError(
                f"log entry {version} of Delta table {table.name}: content changed (sha256 differs)",
                where=str(path),
                remedy=_REMEDY,
            )
        actions = [json.loads(line) for line in data.splitlines() if line]
        info: dict[str, Any] = {}
        files: dict[str, list[Path]] = {"add": [], "remove": []}
        changes, sizes = False, {}
        for action in actions:
            for kind, value in action.items():
                if kind == "commitInfo":
                    info = dict(value)
                elif kind in files:
                    files[kind].append(table / unquote(value["path"]))
                    changes |= bool(value["dataChange"])
                    if kind == "add":
                        sizes[files[kind][-1]] = int(value["size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        disk.refuse_if_out_of_files(error)
        what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({type(error).__name__})"
        remedy = RESTORE if what == "is missing" and table.name == "artifacts" and version else _REMEDY
        raise VlawError(
            f"log entry {version} of Delta table {table.name} {what}", where=str(path), remedy=remedy
        ) from error
    return Entry(version, path, info, tuple(files["add"]), tuple(files["remove"]), changes, sizes)


def newest(table: Path, *, after: int = -1, least: int = 0) -> int:
    """The newest version. With `after`, a version known to exist, only newer names are looked for.

    Args:
        least: a version that the log is known to have had.

    Raises VlawError when entries between are gone, or the last ones: what is left must not be taken for the whole log.
    """
    if copy := replica.of(table):
        copy.pull_log(table)
    if after >= 0:
        version = after
        while entry_path(table, version + 1).exists():
            version += 1
        if version >= least:
            return version
    there = versions(table)
    for expected, version in enumerate(there):
        if expected != version:
            read_entry(table, expected)  # raises, naming the file
    if len(there) <= max(least, 0):
        read_entry(table, len(there))
    return there[-1]


def versions(table: Path) -> list[int]:
    """The versions whose entries are there, in order. Raises VlawError if there is no log."""
    log = table / "_delta_log"
    if copy := replica.of(table):
        copy.pull_log(table)
    try:
        names = os.listdir(log)
    except OSError as error:
        disk.refuse_if_out_of_files(error)
        raise VlawError(
            f"Delta table {table.name} cannot be opened: {error.strerror}", where=str(log), remedy=_REMEDY
        ) from error
    return sorted(int(name[:20]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def entries(table: Path, *, after: int = -1, least: int = 0) -> Iterator[Entry]:
    """The entries newer than `after`, oldest first. Raises VlawError naming a file that is missing or damaged."""
    for version in range(after + 1, newest(table, after=after, least=least) + 1):
        yield read_entry(table, version)


def live(table: Path) -> set[Path]:
    """The data files that the log adds up to. Raises VlawError naming an entry that is missing or damaged."""
    files: set[Path] = set()
    for entry in entries(table):
        files.difference_update(entry.removed)
        files.update(entry.added)
    return files


def append(table: Path, adds: list[dict[str, Any]], *, metadata: dict[str, str], after: int, least: int = -1) -> Entry:
    """Commit files that are on the disk already, as the next version: atomically, durably, never over another's entry.

    A blind append in the terms of the Delta protocol: it reads nothing, so it conflicts with no other commit.

    Args:
        adds: `add` actions.
        metadata: more keys for `commitInfo`.
        after: a version known to exist.
        least: a version that the log is known to have had: its number, or a lower one, is given to nobody again.
    """
    return _commit(table, adds, metadata, lambda: newest(table, after=after, least=least) + 1, step=1)


def put(table: Path, version: int, adds: list[dict[str, Any]], *, metadata: dict[str, str]) -> Entry:
    """Commit as exactly that version, durably. Raises FileExistsError if there is an entry of it."""
    return _commit(table, adds, metadata, lambda: version, step=0)


def _commit(
    table: Path, adds: list[dict[str, Any]], metadata: dict[str, str], version_now: Callable[[], int], *, step: int
) -> Entry:
    """Link a finished entry into the log at `version_now()`, or `step` further on while that is taken."""
    info = {
        "timestamp": int(time.time() * 1000),
        "operation": "WRITE",
        "operationParameters": {"mode": "Append"},
        "isBlindAppend": True,
        "engineInfo": "vlaw",
        **metadata,
    }
    actions = [{"commitInfo": info}, *({"add": add} for add in adds)]
    temporary = table / "_delta_log" / f"_commit_{uuid.uuid4()}.json.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
            file.flush()
            os.fsync(file.fileno())
        version = version_now()
        while True:
            try:
                take_name(temporary, entry_path(table, version))
                break
            except FileExistsError:
                if not step:
                    raise
                if copy := replica.of(table):
                    copy.want(entry_path(table, version))  # another host's: no gap before ours
                version += step
            except OSError as error:
                if error.errno not in disk.LINKLESS:
                    raise
                raise disk.no_links(error, table) from error
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(table / "_delta_log")
    return read_entry(table, version)
