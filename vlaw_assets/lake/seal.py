"""The seal: a chain of hashes over every commit to the table `artifacts`, so that the ledger itself cannot change unseen.

    H_v = sha256(H_{v-1} + canonical JSON of {path, size, sha256} of log entry v and of each data file that it adds, in
    order), H_{-1} = ""

`ledger.chain` has a line per version (so that damage can be named file by file) and only grows; `ledger.seal` says how
far it counts: version, H_v, the length of the chain file, and its own digest. A commit hashes what is new, never what was there. A crash
between a commit and its seal leaves a tail that is not sealed yet; the next commit seals it. The seal is no signature:
whoever can write the lake can seal it again (`vlaw migrate --reseal` does), so keep H_v elsewhere where that matters.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog
from vlaw_assets.lake.durable import (
    FileLock,
    as_written,
    canonical_json,
    digest_of,
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
        _write(paths, version=-1, chain="", length=0)
        _extend(paths)


def extend(paths: Paths) -> int:
    """Seal the versions that are not sealed yet; their bytes are on the disk afterwards. Returns how many there were.

    Raises VlawError if the seal is broken. A disk that fails leaves the tail to the next commit: the ledger row exists.
    """
    try:
        with _lock(paths):
            return _extend(paths)
    except OSError:
        return 0


def check(paths: Paths) -> dict[str, Any]:
    """The seal, after holding it against the end of the chain: a few reads, whatever the history.

    Raises VlawError if they are missing or do not fit.
    """
    found = read(paths)
    if found["version"] < 0:
        return found
    try:
        with paths.chain.open("rb") as file:
            file.seek(max(0, found["length"] - LAST_LINES))
            lines = file.read(found["length"] - file.tell()).splitlines()
        last = json.loads(lines[-1])
        fits = (last["version"], last["chain"]) == (found["version"], found["chain"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        fits = False
    if not fits:
        raise VlawError("ledger.chain does not fit ledger.seal", where=str(paths.chain), remedy=REMEDY)
    return found


def read(paths: Paths) -> dict[str, Any]:
    """{"version", "chain", "length"}. Raises VlawError if it is missing, damaged or not exactly as it was written."""
    try:
        text = paths.seal.read_text(encoding="utf-8")
        found = json.loads(text)
        whole = text == as_written(found) and found.pop("digest") == digest_of(found)
        version, length = int(found["version"]), int(found["length"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise VlawError(f"ledger.seal is {what}", where=str(paths.seal), remedy=REMEDY) from error
    if not whole:
        raise VlawError("ledger.seal is damaged", where=str(paths.seal), remedy=REMEDY)
    return {"version": version, "chain": str(found["chain"]), "length": length}


def describe(paths: Paths, path: Path) -> dict[str, Any]:
    """{path relative to the lake, size, sha256} of a file."""
    return {"path": paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}


def _write(paths: Paths, **found: Any) -> None:
    write_json(paths.seal, found | {"digest": digest_of(found)})


def _extend(paths: Paths) -> int:
    sealed = check(paths)
    table = paths.table("artifacts")
    chain, lines = sealed["chain"], []
    version = sealed["version"]
    for entry in deltalog.entries(table, after=version):
        # The files may be another process's, which has committed and not flushed them yet.
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
    _write(paths, version=version, chain=chain, length=sealed["length"] + len(added))
    return len(lines)


def _lock(paths: Paths) -> AbstractContextManager[None]:
    return FileLock(paths.locks / "seal.lock").hold(
        "seal", wait_s=LOCK_S, remedy="stop it; the next commit seals what is open"
    )
