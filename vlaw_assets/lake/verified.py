"""Files verified once: which files are known to hold the bytes that the ledger recorded, so that they need no second
reading.

A file whose sha256 was right is remembered by its fingerprint: device, inode, size, time of change of its content and
of its inode (ctime: unlike mtime nobody can set it back). As long as the fingerprint is the same, so are the bytes. The
memory is one append-only file of lines outside the lake, in the user's cache folder: whoever can write the lake must
not be able to vouch for it. It can only save work: a line that is cut off, garbled or missing, or a memory that cannot
be read or written, means that the file is hashed again.

What it takes on trust: the clock and the disk of this machine, and the user whose cache it is. A check that trusts
nothing is `vlaw audit --all --verify` (verify.py), which reads every byte.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import replica
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake.artifact import ArtifactRef

RACY_NS = 2_000_000_000
"""A file changed less than this before it was hashed is not remembered: it could change again within one tick of its
clock."""
MOST_BYTES = 128 << 20
"""A memory that has grown larger (a million lines) is begun anew."""
THREADS = min(8, os.cpu_count() or 1)
SMALL_BYTES = 1 << 20
"""Fewer bytes are hashed sooner than threads are started."""
BATCH = 64
"""Files hashed between two additions to the memory: what a killed process has to do again."""


class Verified:
    """The memory of one lake. Cheap to make; the memory is read when it is first asked."""

    def __init__(self, root: Path, memory: Path | None = None):
        """`root`: the lake's folder. `memory`: default the file of this lake below the user's cache folder."""
        self._root = root
        self._memory = memory or memory_of(root)
        self._known: set[bytes] | None = None

    def problems(self, entries: Iterable[Mapping[str, Any]]) -> list[str]:
        """What is wrong with files recorded as {path, size, sha256}, one line each, as
        `durable.file_problems(deep=True)` says it."""
        return [f"{path}: {problem}" for path, problem in self.found(entries).items()]

    def damage(self, files: Iterable[tuple[ArtifactRef, Mapping[str, Any]]]) -> VlawError | None:
        """The error for the first file, of (artifact, its recorded file), that is not as recorded; None when all
        are."""
        files = list(files)
        found = self.found(file for _, file in files)
        return next(
            (
                damage(ref, self._root / file["path"], found[file["path"]])
                for ref, file in files
                if file["path"] in found
            ),
            None,
        )

    def unknown(self, entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those of the files that would have to be read: nothing is remembered of them as they are now."""
        known = self._load()
        prefix = f"{self._root}/"
        unknown: list[Mapping[str, Any]] = []
        for entry in entries:
            try:
                is_known = _line(entry["sha256"], os.stat(prefix + entry["path"])) in known
            except OSError:
                is_known = False
            if not is_known:
                unknown.append(entry)
        return unknown

    def found(self, entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Path, relative to the lake -> what is wrong with that file; files that are as recorded are not in it."""
        found: dict[str, str] = {}
        copy = replica.of(self._root)
        if copy:
            found = copy.fetch(entries := list(entries))
            entries = [entry for entry in entries if entry["path"] not in found]
        unknown = self.unknown(entries)
        for begin in range(0, len(unknown), BATCH):
            batch = unknown[begin : begin + BATCH]
            lines = []
            for entry, (problem, line) in zip(batch, _checked(self._root, batch), strict=True):
                # A copy may be damaged where the object is not.
                if problem and copy and not copy.problems(self._root, [entry], deep=True):
                    continue
                if problem:
                    found[entry["path"]] = problem
                elif line:
                    lines.append(line)
            self._remember(lines)
        return found

    def _load(self) -> set[bytes]:
        if self._known is None:
            self._known = set(read_own(self._memory, MOST_BYTES + (1 << 20)).split(b"\n")) if self._memory else set()
        return self._known

    def _remember(self, lines: list[bytes]) -> None:
        """Add lines; one write for all, to the end of the file, so that those of other processes stay whole."""
        if not lines:
            return
        self._load().update(lines)
        if self._memory is None:
            return
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(
                self._memory, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                if os.fstat(descriptor).st_size > MOST_BYTES:
                    os.ftruncate(descriptor, 0)
                # The first newline ends a line that a killed process or a full disk has left open.
                os.write(descriptor, b"\n" + b"\n".join(lines) + b"\n")
            finally:
                os.close(descriptor)
        except OSError:
            return  # no memory this time


def damage(ref: ArtifactRef, path: Path, what: str) -> VlawError:
    """The error for a file of an artifact that is not what the ledger says."""
    partition = f" {ref.partition.replace('|', ' ')}" if ref.partition else ""
    return VlawError(
        f"a file of {ref.name} ({ref.artifact_id}): {what}",
        where=str(path),
        remedy=f"`vlaw audit {ref.asset}{partition} --verify` names all damage; "
        "restore the file, or materialize the artifact again with force",
    )


def memory_of(root: Path) -> Path | None:
    """Where files of this lake are remembered; None where that would lie inside the lake, or there is no home
    folder."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or ""
        cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        real = Path(os.path.realpath(root))
        if Path(os.path.realpath(cache)).is_relative_to(real):
            return None
    except (OSError, RuntimeError, ValueError):
        return None
    return cache / "vlaw" / f"verified-{hashlib.sha256(os.fsencode(real)).hexdigest()[:32]}"


def read_own(path: Path, most: int) -> bytes:
    """The bytes of a memory that nobody but this user could have written; none for any other, or one of more than
    `most` bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            ours = S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022
            return file.read() if ours and about.st_size <= most else b""
    except OSError:
        return b""


def write_own(path: Path, data: bytes) -> None:
    """Replace a whole memory at once, for this user's eyes only. Raises OSError."""
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


def _line(sha256: str, about: os.stat_result) -> bytes:
    """What is remembered: a digest, and the fingerprint of the file that has it."""
    return f"{sha256} {about.st_dev} {about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}".encode()


def _checked(root: Path, entries: list[Mapping[str, Any]]) -> list[tuple[str, bytes]]:
    """Per entry (what is wrong, the line to remember): hashed side by side, since hashing lets go of the
    interpreter."""
    if THREADS == 1 or len(entries) == 1 or sum(entry["size"] for entry in entries) < SMALL_BYTES:
        return [check(root, entry) for entry in entries]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda entry: check(root, entry), entries))


def check(root: Path, entry: Mapping[str, Any]) -> tuple[str, bytes]:
    """Reads one file. ('', b'') for one that is as recorded and not to be remembered."""
    try:
        # Not to wait for the other end of a pipe that somebody has put there.
        with open(os.open(root / entry["path"], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            about = os.fstat(file.fileno())
            begun = time.time_ns()
            if not S_ISREG(about.st_mode):
                return "missing", b""
            if about.st_size != entry["size"]:
                return f"{about.st_size} bytes instead of {entry['size']}", b""
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                return "content changed (sha256 differs)", b""
            line = _line(entry["sha256"], about)
            settled = begun - about.st_ctime_ns > RACY_NS and _line(entry["sha256"], os.fstat(file.fileno())) == line
            return "", line if settled else b""
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return "missing", b""
    except OSError as error:
        return f"cannot be read ({error.strerror})", b""
