"""Making bytes durable: fsync, atomic renames, digests, and the lock of one asset partition.

For a lake on an object store (replica.py) durable means: in the bucket. Then the same calls put there what they flush
here, read from there what is not here yet, and a lock is a lease that all hosts see.

Here because neither Delta nor Lance calls fsync (checked with strace): a commit of theirs survives a killed process,
not a power cut. What is fsynced when is the business of `draft.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from vlaw_assets.lake import disk, replica
from vlaw_models.errors import VlawError

POLL_S = 0.02
"""How often a lock that is waited for is tried."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Raises TypeError/ValueError (NaN, objects)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_of(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_problems(root: Path, entries: Iterable[dict[str, Any]], *, deep: bool = True) -> list[str]:
    """What is wrong with files recorded as {path, size, sha256}, one line each. Not `deep`: without reading them."""
    if copy := replica.of(root):
        return copy.problems(root, list(entries), deep=deep)
    found = []
    for entry in entries:
        path = root / entry["path"]
        if not path.is_file():
            found.append(f"{entry['path']}: missing")
        elif path.stat().st_size != entry["size"]:
            found.append(f"{entry['path']}: {path.stat().st_size} bytes instead of {entry['size']}")
        elif deep and sha256_file(path) != entry["sha256"]:
            found.append(f"{entry['path']}: content changed (sha256 differs)")
    return found


def fsync_path(path: Path) -> None:
    """Flush one file or folder entry list to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_files(paths: Iterable[Path], *, root: Path, missing_ok: bool = False) -> None:
    """Flush files, then every folder between them and `root` (a file is durable only once its folder entry is).

    `missing_ok`: a file that is gone was another process's (a commit that lost a race and tidied up); it is passed
    over. In a bucket they are put.
    """
    folders: set[Path] = set()
    if copy := replica.of(root):
        copy.publish(paths := list(paths))
    for path in paths:
        try:
            fsync_path(path)
        except FileNotFoundError:
            if not missing_ok:
                raise
        folder = path.parent
        while folder not in folders:
            folders.add(folder)
            if folder == root:
                break
            folder = folder.parent
    for folder in sorted(folders, key=lambda item: len(item.parts), reverse=True):
        fsync_path(folder)


def as_written(value: Any) -> str:
    """The text that `write_json` gives a value; a file that differs from it was changed by somebody else."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def replace_file(path: Path, data: str | bytes) -> None:
    """Write a file so that `path` holds either its old content or all of the new one, whatever happens. Raises
    OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `replace_file` does. Raises OSError."""
    replace_file(path, as_written(value))


def write_page(path: Path, data: str | bytes, *, remedy: str) -> None:
    """Write a page, picture or other file for a person, whole or not at all; folders on the way are made.

    Raises VlawError where it cannot be written: an older file of that name is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise VlawError(f"the file cannot be written: {error.strerror}", where=str(path), remedy=remedy) from error


def take_name(temporary: Path, path: Path) -> None:
    """Give a finished file a name that is free, for good: one of all who want it gets it. Raises FileExistsError."""
    if copy := replica.of(path):
        copy.create(path, temporary)
        with suppress(FileExistsError):  # another process has fetched it already
            os.link(temporary, path)
        return
    os.link(temporary, path)


class FileLock:
    """Exclusive lock on a file (`flock`), freed by the kernel however its process ends; a forked child has no part in
    it. Of a lake on an object store also a lease (lease.py), which other hosts see, and which runs out.

    The file names its holder for the message a second comer gets. Only a holder deletes it (`remove`), and only where
    nobody will want it again or does no harm by it: who waited for a deleted file finds that out and takes the new one.
    """

    def __init__(self, path: Path, *, shared: bool = True):
        """`shared`: with other hosts, where the lake is."""
        self.path = path
        self._copy = replica.of(path) if shared else None
        self._lease = self._copy.lease(path) if self._copy else None
        self._lock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False, poll_interval=POLL_S)

    def acquire(self, *, holder: str = "", wait_s: float = 0.0) -> bool:
        """Try for up to `wait_s` seconds. False when somebody else holds it.

        Raises VlawError if the lock cannot be made or tried (disk full or read-only, a file system without locks).
        """
        try:
            self._lock.acquire(timeout=max(wait_s, POLL_S))  # twice at least: the file may just be deleted
        except filelock.Timeout:
            return False
        except OSError as error:
            raise disk.failure(error, "the lock cannot be taken", where=str(self.path), remedy=disk.LOCAL) from error
        if self._copy and self._lease:
            try:
                if not self._lease.acquire(holder=holder, wait_s=wait_s):
                    self._lock.release(force=True)
                    return False
            except BaseException:
                self._lock.release(force=True)
                raise
            self._copy.stale()  # whoever held it may have committed
        with suppress(
            OSError
        ):  # for messages only: a full disk must not keep anybody from the lock, `vlaw gc` least of all
            note = {"run_id": holder, "pid": os.getpid(), "host": socket.gethostname()}
            os.utime(self.path)  # `held_since`, also where the note has no place
            self.path.write_text(json.dumps(note))
        return True

    @contextmanager
    def hold(self, holder: str, *, wait_s: float, remedy: str) -> Iterator[None]:
        """Hold it for a block. Raises VlawError naming the holder if it stays taken for `wait_s` seconds."""
        if not self.acquire(holder=holder, wait_s=wait_s):
            other = self.holder()
            raise VlawError(
                f"{other.get('run_id', 'another process')} is at work: pid {other.get('pid', '?')} on "
                f"{other.get('host', '?')}",
                where=str(self.path),
                remedy=remedy,
            )
        try:
            yield
        finally:
            self.release()

    def confirm(self) -> None:
        """Raises VlawError where it is not held any more: a lease has run out and was taken over. A lock on a file is
        held until it is released."""
        if self._lease:
            self._lease.confirm()

    def held_since(self) -> float | None:
        """When its holder took it (seconds since the epoch), whichever process that is; None while nobody holds it."""
        if self._lease:
            return self._lease.held_since()
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            since = os.fstat(descriptor).st_mtime
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return since
        else:
            return None
        finally:
            os.close(descriptor)

    def holder(self) -> dict[str, Any]:
        """What the holder wrote about itself; empty while it is writing."""
        if self._lease:
            return self._lease.holder()
        try:
            return json.loads(self.path.read_text() or "{}")
        except (OSError, json.JSONDecodeError):
            return {}

    def remove(self) -> None:
        """Deletes the file while it is held, then frees it. Nothing happens where this process does not hold it."""
        if self._lock.is_locked:
            with suppress(FileNotFoundError):
                self.path.unlink()
        self.release()

    def release(self) -> None:
        try:
            if self._lease:
                self._lease.release()
        finally:
            self._lock.release(force=True)


def check_writable(folder: Path, *, remedy: str) -> None:
    """Really write a file into `folder` (permission bits tell nothing to root or on a read-only mount)."""
    probe = folder / f".writable-{os.getpid()}-{time.monotonic_ns()}"
    try:
        probe.write_bytes(b"")
    except OSError as error:
        raise VlawError(f"the lake cannot be written: {error.strerror}", where=str(folder), remedy=remedy) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
