"""What the disk under a lake says, in words; and whether a folder keeps the promises that a lake stands on.

The one place that knows a full, read-only or failing disk and a process out of file descriptors, whoever reports it
(several libraries give a text only); and the trial of a folder: do locks exclude, do hard links and renames work, are
locks shared with other machines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vlaw_models.errors import VlawError

SQLITE = -1
"""In place of an errno: SQLite says 'disk I/O error' of a full disk, of a read-only one and of one that fails."""
MOST_FILES = 1 << 16
FREE = "free space (`vlaw gc` deletes what killed runs left behind), then run it again"
SAID = {
    errno.ENOSPC: ("the disk is full", FREE),
    errno.EDQUOT: ("the disk quota is used up", FREE),
    errno.EROFS: ("the disk is read-only", "mount it for writing, or choose a folder that can be written"),
    errno.EMFILE: (
        "this process may not open more files",
        "raise the limit (`ulimit -n 4096`) and run it again; no file is to blame",
    ),
    errno.ENFILE: ("this machine may not open more files", "close programs or raise fs.file-max; no file is to blame"),
    errno.EIO: ("the disk reports an input/output error", "look into the system's log; copy the lake to another disk"),
    SQLITE: (
        "the database of runs cannot be read or written",
        "see that the disk of DAGSTER_HOME has space and can be written",
    ),
    errno.EACCES: ("permission denied", "see that you may read and write there"),
}
"""errno -> what it means, and what a person can do. Other errors are not the disk's."""
LINKLESS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
"""What `os.link` answers where a file system has no hard links."""
LOCAL = (
    "keep the lake in a local folder (ext4, xfs, btrfs), or on NFS with locks; object stores mounted as folders "
    "cannot hold one"
)

_TEXTS = {
    **{os.strerror(number).lower(): number for number in SAID if number not in (errno.EACCES, SQLITE)},
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk i/o error": SQLITE,
}
_NUMBER = re.compile(r"os error (\d+)|\[errno (\d+)\]")
MOUNTS = Path("/proc/self/mountinfo")


def cause(error: BaseException | None) -> int | None:
    """The errno of the disk's trouble behind an error, followed through what caused it; None where it is another
    trouble."""
    for item in _chain(error):
        if isinstance(item, OSError) and item.errno in SAID:
            return item.errno
        text = str(item).lower()
        numbers = [int(one or other) for one, other in _NUMBER.findall(text)]
        found = next((number for number in numbers if number in SAID), None)
        found = found or next((number for phrase, number in _TEXTS.items() if phrase in text), None)
        if found is not None:
            return found
    return None


def named(error: BaseException, *, where: str = "") -> VlawError | None:
    """The disk's trouble as an error a person can read; None where `error` is something else, a defect for example."""
    number = cause(error)
    if number is None:
        return None
    what, remedy = SAID[number]
    what += _system(number)
    file = next((str(item.filename) for item in _chain(error) if isinstance(item, OSError) and item.filename), "")
    return VlawError(
        what, where=file or where or str(error).strip().partition("\n")[0][:300] or "the disk", remedy=remedy
    )


def failure(error: BaseException, what: str, *, where: str, remedy: str) -> VlawError:
    """`what` happened because of `error`: with the disk's own remedy where there is one, else with `remedy`."""
    number = cause(error)
    own = getattr(error, "strerror", None) or str(error).strip()
    reason = f"{SAID[number][0]}{_system(number)}" if number is not None else own
    return VlawError(f"{what}: {reason}", where=where, remedy=remedy if number is None else SAID[number][1])


def _system(number: int) -> str:
    return f" ({os.strerror(number)})" if number > 0 else ""


def more_files() -> int:
    """Raise this process's own limit of open files as far as it may; DuckDB holds one per file of a query. Returns the
    limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def refuse_if_out_of_files(error: BaseException) -> None:
    """Called where an unreadable file is about to be taken for a damaged one. Raises VlawError if descriptors ran
    out."""
    if cause(error) in (errno.EMFILE, errno.ENFILE):
        found = named(error)
        assert found is not None
        raise found from error


def try_folder(folder: Path) -> str:
    """Try out what a lake needs of the file system below `folder`; the folder is left as it was. Returns what it is on.

    Raises VlawError: not writable, or locks, links or renames do not do here what the lake relies on.
    """
    stem = f".trial-{os.getpid()}-{time.monotonic_ns()}"
    one, other = folder / f"{stem}.a", folder / f"{stem}.b"
    try:
        one.write_bytes(b"one")
        _try_locks(one)
        _try_links(one, other)
        other.unlink()
        other.write_bytes(b"other")
        os.replace(other, one)
        if one.read_bytes() != b"other" or other.exists():
            raise _unfit(folder, "a rename does not replace the file that is there")
    except OSError as error:
        raise failure(error, "the folder cannot be used", where=str(folder), remedy=LOCAL) from error
    finally:
        for path in (one, other):
            path.unlink(missing_ok=True)
    kind, options = mount_of(folder)
    why = not_shared(kind, options)
    if why:
        raise _unfit(folder, why)
    return kind


def mount_of(folder: Path) -> tuple[str, frozenset[str]]:
    """Type and options of the file system that `folder` is on; ('', none) where the system does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", frozenset()
    found, longest = ("", frozenset[str]()), -1
    here = os.path.realpath(folder)
    for line in lines:
        mount, separator, device = (part.split() for part in line.partition(" - "))
        if not separator or len(mount) < 6 or len(device) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount[4])
        inside = here == point or here.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of two mounts on one point the later one is seen
            longest, found = len(point), (device[0], frozenset([*mount[5].split(","), *device[2].split(",")]))
    return found


def not_shared(kind: str, options: frozenset[str]) -> str:
    """Why locks on such a file system do not reach other machines; '' where they do, or where there are no others."""
    switched_off = {
        "nfs": ("nolock", "local_lock=flock", "local_lock=all"),
        "cifs": ("nobrl", "forcemandatorylock"),
        "lustre": ("localflock", "noflock"),
    }
    family = {"nfs4": "nfs", "smb3": "cifs", "smbfs": "cifs"}.get(kind, kind)
    found = sorted(options.intersection(switched_off.get(family, ())))
    if found:
        return f"this {kind} is mounted with {', '.join(found)}, so locks are not shared with other machines"
    if family == "lustre" and "flock" not in options:
        return "this lustre is mounted without flock, so locks are not shared with other machines"
    if kind == "fuse.sshfs" or any(
        name in kind for name in ("s3fs", "gcsfuse", "goofys", "blobfuse", "mountpoint-s3", "rclone")
    ):
        return f"{kind} shares no locks with other machines"
    return ""


def _try_locks(path: Path) -> None:
    """Two open descriptions of one file, and then another process, must not hold the same lock."""
    descriptors = [os.open(path, os.O_RDWR | os.O_CLOEXEC) for _ in range(2)]
    try:
        try:
            fcntl.flock(descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _unfit(path.parent, f"locks (flock) do not work here: {error.strerror}") from error
        if _gets(descriptors[1]):
            raise _unfit(path.parent, "locks (flock) do not exclude: two holders had the same one")
        code = (
            "import fcntl, sys\ntry: fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
            "except OSError: sys.exit(7)"
        )
        if (
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", code, str(path)], check=False, capture_output=True
            ).returncode
            == 0
        ):
            raise _unfit(path.parent, "locks (flock) do not exclude: another process had the same one")
        os.close(descriptors.pop(0))
        if not _gets(descriptors[0]):
            raise _unfit(path.parent, "a lock (flock) is not free after its holder closed it")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _gets(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_links(one: Path, other: Path) -> None:
    try:
        os.link(one, other)
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        raise no_links(error, one.parent) from error
    try:
        os.link(one, other)
    except FileExistsError:
        pass
    else:
        raise _unfit(one.parent, "a second name (os.link) replaces a file that is there")
    if not os.path.samefile(one, other):
        raise _unfit(one.parent, "a second name (os.link) is another file")


def no_links(error: OSError, folder: Path) -> VlawError:
    """The file system has no hard links, by which a commit takes its place in the log."""
    return _unfit(folder, f"this file system has no hard links (os.link: {error.strerror}), and a commit needs one")


def _unfit(folder: Path, why: str) -> VlawError:
    return VlawError(f"a lake cannot be kept here: {why}", where=str(folder), remedy=LOCAL)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
