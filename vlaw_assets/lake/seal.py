"""The seal: a chain of hashes over every commit to the table `artifacts`, so that the ledger itself cannot change
unseen.

    H_v = sha256(H_{v-1} + canonical JSON of {path, size, sha256} of log entry v and of each data file that it adds, in
    order), H_{-1} = ""

`ledger.chain` has a line per version (so that damage can be named file by file) and only grows; `ledger.seal` says how
far it counts: version, H_v, the length of the chain file, and its own digest. A commit hashes what is new, never what
was there. A crash between a commit and its seal leaves a tail that is not sealed yet; the next commit seals it. A tail
that was sealed and is gone is refused by every reader and by every commit (`check`). The seal is no signature:
whoever can write the lake can seal it again (`vlaw migrate --reseal` does), so keep H_v elsewhere where that matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog, disk, replica
from vlaw_assets.lake.durable import (
    FileLock,
    as_written,
    canonical_json,
    digest_of,
    file_problems,
    fsync_path,
    sha256_file,
    write_json,
)
from vlaw_assets.lake.paths import Paths
from vlaw_models.errors import VlawError

LOCK_S = 60.0
LAST_LINES = 1 << 16
"""Bytes read from the end of the chain to find the sealed line: several hundred times a line's length."""
REMEDY = "see `vlaw audit ... --verify`; restore the files from a backup, or accept them with `vlaw migrate --reseal`"


def link(before: str, log: dict[str, Any], files: list[dict[str, Any]]) -> str:
    """H_v from H_{v-1}, the log entry and its data files, each {path, size, sha256}."""
    return hashlib.sha256((before + canonical_json([log, *files])).encode()).hexdigest()


def start(paths: Paths) -> None:
    """Seal everything there is, from the first version on. For a lake that is being made, migrated or accepted."""
    with _lock(paths):
        if copy := replica.of(paths.root):
            copy.refresh(now=True)
        write(paths, version=-1, chain="", length=0)
        seal_tail(paths)


def extend(paths: Paths) -> int:
    """Seal the versions that are not sealed yet; their bytes are on the disk afterwards. Returns how many there were.

    Raises VlawError if the seal is broken. A disk that fails leaves the tail to the next commit: the ledger row exists.
    """
    try:
        with _lock(paths):
            return _seal_tail_in_bucket(paths, copy) if (copy := replica.of(paths.root)) else seal_tail(paths)
    except (OSError, VlawError) as error:
        if isinstance(error, VlawError) and disk.cause(error) is None:
            raise
        return 0


def _seal_tail_in_bucket(paths: Paths, copy: replica.Replica) -> int:
    """`seal_tail`, again until no other host has sealed meanwhile: both files are replaced only as they were read, so
    the chain never ends before the seal."""
    while True:
        copy.refresh(now=True)
        try:
            with copy.alone():
                return seal_tail(paths)
        except replica.Moved:
            time.sleep(random.uniform(0.0, 0.2))


def check(paths: Paths) -> dict[str, Any]:
    """The seal, after holding it against the end of the chain and of the ledger's log: a few reads, whatever the
    history.

    Raises VlawError if they are missing or do not fit, and if the log has lost what was sealed last: a ledger without
    its newest entries must not be taken for the whole, and their version numbers must not be given to others.
    """
    found = read(paths)
    if found["version"] < 0:
        return found
    try:
        with paths.chain.open("rb") as file:
            file.seek(max(0, found["length"] - LAST_LINES))
            lines = file.read(found["length"] - file.tell()).splitlines()
            beyond = file.read()
        last = json.loads(lines[-1])
        fits = (last["version"], last["chain"]) == (found["version"], found["chain"])
        described = [last["log"], *last["files"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        disk.refuse_if_out_of_files(error)
        fits = False
    if not fits:
        raise VlawError("ledger.chain does not fit ledger.seal", where=str(paths.chain), remedy=REMEDY)
    _refuse_lost_tail(paths, max([found["version"], *_versions_of(beyond)]))
    problems = file_problems(paths.root, described, deep=False)
    if problems:
        raise VlawError(
            f"the newest sealed entry of the ledger is not whole: {'; '.join(problems)}",
            where=str(paths.root),
            remedy=deltalog.RESTORE,
        )
    return found


def _versions_of(beyond: bytes) -> list[int]:
    """Versions in whole lines after the sealed part of the chain: committed by a process that died before it sealed
    them."""
    found = []
    for line in beyond.split(b"\n")[:-1]:
        try:
            item = json.loads(line)
            if canonical_json(item).encode() == line:
                found.append(int(item["version"]))
        except (ValueError, KeyError, TypeError):
            break  # a line that was being written
    return found


def _refuse_lost_tail(paths: Paths, newest: int) -> None:
    table = paths.table("artifacts")
    if deltalog.entry_path(table, newest).exists():
        return
    there = set(deltalog.versions(table))
    lost = [version for version in range(newest + 1) if version not in there]
    if not lost:
        return  # it came meanwhile
    named = ", ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    raise VlawError(
        f"the ledger has lost version{'s' if len(lost) > 1 else ''} {named}: sealed up to version {newest}, not in "
        f"its log",
        where=str(deltalog.entry_path(table, lost[0])),
        remedy=deltalog.RESTORE,
    )


class Watch:
    """Asks `check` again only when the seal has changed: for readers that look often."""

    def __init__(self, paths: Paths):
        self._paths = paths
        self._seen: tuple[int, ...] = ()
        self._version = -1

    def sealed(self) -> int:
        """The version up to which the log is sealed, and whole at its end. Raises VlawError as `check` does."""
        seen: tuple[int, ...] = ()
        with suppress(OSError):  # `check` says what is wrong
            stat = self._paths.seal.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if not seen or seen != self._seen:
            self._version = check(self._paths)["version"]
            self._seen = seen
        return self._version


def read(paths: Paths) -> dict[str, Any]:
    """{"version", "chain", "length"}. Raises VlawError if it is missing, damaged or not exactly as it was written."""
    if copy := replica.of(paths.root):
        copy.refresh()
    try:
        text = paths.seal.read_text(encoding="utf-8")
        found = json.loads(text)
        whole = text == as_written(found) and found.pop("digest") == digest_of(found)
        version, length = int(found["version"]), int(found["length"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        disk.refuse_if_out_of_files(error)
        what = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise VlawError(f"ledger.seal is {what}", where=str(paths.seal), remedy=REMEDY) from error
    if not whole:
        raise VlawError("ledger.seal is damaged", where=str(paths.seal), remedy=REMEDY)
    return {"version": version, "chain": str(found["chain"]), "length": length}


def links(paths: Paths) -> dict[int, dict[str, Any]]:
    """Version -> its line of the chain, as far as the lines are whole and follow one another; {} without a chain."""
    try:
        data = paths.chain.read_bytes()
    except OSError:
        return {}
    return dict(enumerate(followed(data.split(b"\n")[:-1])))


def followed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The lines of a chain from its first one on, as far as each follows from the one before."""
    before = ""
    for version, line in enumerate(lines):
        try:
            item = json.loads(line)
            if item["version"] != version or item["chain"] != link(before, item["log"], item["files"]):
                return
        except (ValueError, KeyError, TypeError):
            return
        yield item
        before = item["chain"]


def describe(paths: Paths, path: Path) -> dict[str, Any]:
    """{path relative to the lake, size, sha256} of a file."""
    return {"path": paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}


def write(paths: Paths, **found: Any) -> None:
    """Replace the seal by one over `found` (version, chain, length)."""
    write_json(paths.seal, found | {"digest": digest_of(found)})
    if copy := replica.of(paths.root):
        copy.swap(paths.seal)


def seal_tail(paths: Paths) -> int:
    """Seal the versions that are not sealed yet, with the lock held. Returns how many there were."""
    sealed = check(paths)
    table = paths.table("artifacts")
    chain, lines = sealed["chain"], []
    version = sealed["version"]
    for entry in deltalog.entries(table, after=version):
        # The files may be another process's, which has committed and not flushed them yet.
        if copy := replica.of(paths.root):
            _have(copy, entry)
        for path in (entry.path, *entry.added):
            fsync_path(path)
        log, files = describe(paths, entry.path), [describe(paths, path) for path in entry.added]
        chain = link(chain, log, files)
        lines.append(canonical_json({"version": entry.version, "log": log, "files": files, "chain": chain}) + "\n")
        version = entry.version
    if not lines:
        return 0
    added = "".join(lines).encode()
    descriptor = os.open(paths.chain, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(descriptor, sealed["length"])  # what a killed process appended without sealing it
        os.pwrite(descriptor, added, sealed["length"])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if copy := replica.of(paths.root):
        copy.swap(paths.chain)
    write(paths, version=version, chain=chain, length=sealed["length"] + len(added))
    return len(lines)


def _have(copy: replica.Replica, entry: deltalog.Entry) -> None:
    """The data files of another host's commit, small as they are, for their digests. Raises VlawError."""
    for path in entry.added:
        if not path.exists() and (text := copy.bucket.fetch(copy.name(path), path, size=entry.sizes[path])):
            raise VlawError(f"a data file of the ledger: {text}", where=str(path), remedy=deltalog.RESTORE)


def _lock(paths: Paths) -> AbstractContextManager[None]:
    # Of this host alone: in a bucket hosts are kept apart by puts on a condition.
    return FileLock(paths.locks / "seal.lock", shared=False).hold(
        "seal", wait_s=LOCK_S, remedy="stop it; the next commit seals what is open"
    )
