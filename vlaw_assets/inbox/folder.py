"""The inbox as a folder: what lies in it, and moving what does. No dataset is read here, and no lake.

Whoever drops recordings is not trusted: nothing is opened through a symbolic link, every file of a recording must lie
in its folder, and a folder is moved only if it is the one that was looked at (device and inode).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vlaw_assets.lake.durable import fsync_path
from vlaw_assets.local_folder import check_local
from vlaw_models.errors import VlawError

INBOX = "inbox"
"""Folder of a lake, where no other is named."""
NOTE, REASON = "recording.toml", "reason.txt"
TAKEN, REFUSED = "taken", "refused"
MOST_BYTES = 64 << 10
"""Of a note; a larger one is none."""
LONGEST_NAME = 255
"""Bytes that a file system takes as a name."""


@dataclass(frozen=True)
class Dropped:
    """A folder in the inbox that says it is finished."""

    path: Path
    device: int
    inode: int

    @property
    def name(self) -> str:
        """As text, whatever bytes it is made of."""
        return os.fsencode(self.path.name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Look:
    """What lies in an inbox."""

    finished: tuple[Dropped, ...]
    waiting: tuple[tuple[str, str], ...]
    """(name, why it is left alone)."""


class Inbox:
    """One inbox folder. Use `Inbox.open`."""

    def __init__(self, root: Path):
        self.root = root

    @classmethod
    def open(cls, path: str | Path, lake: Path, *, create: bool = False) -> Inbox:
        """The inbox at that place, '' for the lake's own; with `create` it is made where there is none.

        Raises VlawError for a place that is none: an address, a file, the lake itself or a folder that it lies in, a
        folder of the lake's own.
        """
        check_local(path)
        lake = lake.resolve()
        root = Path(path).expanduser().absolute() if path else lake / INBOX
        remedy = "Set VLAW_INBOX to a folder of its own."
        real = root.resolve()
        if lake.is_relative_to(real):
            raise VlawError("the inbox is the lake, or a folder that it lies in", where=str(root), remedy=remedy)
        if real.is_relative_to(lake) and real != lake / INBOX:
            raise VlawError("the inbox is in a folder of the lake's own", where=str(root), remedy=remedy)
        try:
            if create:
                for folder in (root, root / TAKEN, root / REFUSED):
                    folder.mkdir(parents=folder == root, exist_ok=True)
            for folder in (root / TAKEN, root / REFUSED):
                if stat.S_ISLNK(folder.lstat().st_mode) or not folder.is_dir():
                    raise VlawError("this is no folder", where=str(folder), remedy="Remove it: it is made again.")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise VlawError(
                f"the inbox cannot be used: {error.strerror}", where=str(error.filename or root), remedy=remedy
            ) from error
        return cls(root)

    def look(self) -> Look:
        """What lies here, in order of names; nothing where there is no such folder."""
        finished, waiting = [], []
        for name in sorted(os.listdir(self.root)) if self.root.is_dir() else ():
            path = self.root / name
            if name in (TAKEN, REFUSED):
                continue
            try:
                about = path.lstat()
                if not stat.S_ISDIR(about.st_mode):
                    link = stat.S_ISLNK(about.st_mode)
                    waiting.append((name, "a symbolic link: not followed" if link else "a file, no folder"))
                    continue
                (path / NOTE).lstat()
            except FileNotFoundError:
                if path.is_dir():
                    waiting.append((name, f"still being written: it has no {NOTE}"))
            except OSError as error:
                waiting.append((name, f"cannot be looked at: {error.strerror}"))
            else:
                finished.append(Dropped(path, about.st_dev, about.st_ino))
        return Look(tuple(finished), tuple(waiting))

    def move(self, dropped: Dropped, where: str) -> Path:
        """Moves a folder to TAKEN or REFUSED, by a rename, under its own name or the first free one like it.

        Raises OSError, and leaves what is there, where it cannot be moved or another folder has taken its place.
        """
        target = self._free(where, dropped.path.name)
        os.rename(dropped.path, target)
        about = target.lstat()
        if (about.st_dev, about.st_ino) != (dropped.device, dropped.inode):
            os.rename(target, dropped.path)
            raise FileNotFoundError(f"{dropped.path} is another folder now")
        fsync_path(target.parent)
        fsync_path(self.root)
        return target

    def _free(self, where: str, name: str) -> Path:
        number, found = 1, self.root / where / name
        while os.path.lexists(found):
            number += 1
            end = f"-{number}".encode()
            found = self.root / where / os.fsdecode(os.fsencode(name)[: LONGEST_NAME - len(end)] + end)
        return found


def is_there(dropped: Dropped) -> bool:
    """Whether it is still the folder that was looked at, and says that it is finished."""
    try:
        about = dropped.path.lstat()
        (dropped.path / NOTE).lstat()
    except OSError:
        return False
    return (about.st_dev, about.st_ino) == (dropped.device, dropped.inode)


def read_note(dropped: Dropped) -> str:
    """The text of its note. Raises VlawError for what is no small text file, OSError where it cannot be read."""
    where = str(dropped.path / NOTE)
    with _opened(dropped) as folder:
        try:
            note = os.open(NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            if stat.S_ISLNK(os.lstat(NOTE, dir_fd=folder).st_mode):
                raise VlawError(f"{NOTE} is a symbolic link", where=where, remedy="Copy the file itself.") from error
            raise
        try:
            about = os.fstat(note)
            if not stat.S_ISREG(about.st_mode):
                raise VlawError(f"{NOTE} is no file", where=where, remedy="Write a small TOML file.")
            if about.st_size > MOST_BYTES:
                raise VlawError(
                    f"{NOTE} has {about.st_size:,} bytes, more than {MOST_BYTES:,}",
                    where=where,
                    remedy="Write a small TOML file.",
                )
            return os.read(note, MOST_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise VlawError(f"{NOTE} is no text in UTF-8", where=where, remedy="Write it in UTF-8.") from error
        finally:
            os.close(note)


Files: TypeAlias = tuple[tuple[str, int, int, int, int], ...]
"""What `files_of` lists."""


def files_of(dropped: Dropped) -> Files:
    """(path, inode, bytes, time changed, time its inode changed) of everything in it: equal while nothing was written.

    Raises VlawError for a link that leads out of it or nowhere, and for what is neither file nor folder.
    """
    found = []
    root = dropped.path.resolve()

    def failed(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(dropped.path, onerror=failed):
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            if path == dropped.path / REASON:  # of an earlier refusal: it is replaced, never read
                continue
            about = path.lstat()
            kind = stat.S_IFMT(about.st_mode)
            if kind == stat.S_IFLNK and not (path.exists() and path.resolve().is_relative_to(root)):
                raise VlawError(
                    f"a symbolic link leads out of the recording, or nowhere: {os.readlink(path)}",
                    where=str(path),
                    remedy="Copy the recording with its links followed (cp -rL), if you trust what they point to.",
                )
            if kind not in (stat.S_IFLNK, stat.S_IFREG, stat.S_IFDIR):
                raise VlawError("neither file nor folder", where=str(path), remedy="Remove it and drop it again.")
            times = (0, 0, 0) if kind == stat.S_IFDIR else (about.st_size, about.st_mtime_ns, about.st_ctime_ns)
            found.append((str(path), about.st_ino, *times))
    return tuple(found)


def give_reason(dropped: Dropped, text: str) -> None:
    """Writes why it is refused into the folder. Raises OSError."""
    with _opened(dropped) as folder:
        with suppress(FileNotFoundError):
            os.unlink(REASON, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(REASON, flags, 0o644, dir_fd=folder), "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        os.fsync(folder)


@contextmanager
def _opened(dropped: Dropped) -> Iterator[int]:
    """A descriptor of the folder that was looked at. Raises OSError where another one has taken its place."""
    folder = os.open(dropped.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        about = os.fstat(folder)
        if (about.st_dev, about.st_ino) != (dropped.device, dropped.inode):
            raise FileNotFoundError(f"{dropped.path} is another folder now")
        yield folder
    finally:
        os.close(folder)
