"""Files of a dataset that may come from anybody: none outside its folder is opened, and a damaged one is named.

Path templates are format strings out of a JSON file, so only plain fields are allowed in them. Every path must resolve
to a regular file inside the dataset's folder; of a folder in the hub's cache, whose files are links, also to one among
the blobs of the same repository. What is opened is what was looked at: a file that is another one, or has changed since
it was first seen, is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vlaw_models.errors import VlawError

NUMBER = re.compile(r"(0?\d?\d?d)?")
"""Format of a number in a path template, e.g. 03d; a width of at most two digits."""
BROKEN = "Copy the dataset again, or repair it with LeRobot's own tools (a recording must be finalized)."
REPOSITORY = re.compile(r"(datasets|models|spaces)--.+")
MAX_JSON = 64 * 2**20
MAX_LINE = 2**20
"""Bytes of a JSON file, and of a line of a file of JSON lines."""
KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISLNK, "a link"))

Stamp = tuple[int, int, int, int]
"""Device, inode, bytes and time of the last change of a file."""


class MissingFileError(VlawError):
    """A file that is missing or empty: whatever stands on it is faulty, the rest of the dataset may be sound."""


class ChangedFileError(VlawError):
    """A file that is no longer the one that was looked at: nothing that was read can be trusted to be of it."""


@dataclass(frozen=True)
class Folder:
    """A dataset's folder: everything of it is opened through here."""

    root: Path
    """Resolved."""
    blobs: Path | None = None
    """Where the links of a snapshot in the hub's cache lead to; None for any other folder."""
    _stamps: dict[str, Stamp] = field(default_factory=dict, repr=False)
    _parents: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, path: Path | str, *, holds: str, remedy: str) -> Folder:
        """The folder, which must hold the file `holds`. VlawError with `remedy` where it does not."""
        try:
            root = Path(path).expanduser().resolve(strict=True)
            there = os.path.lexists(root / holds)
        except (OSError, ValueError, RuntimeError):
            there = False
        if not there:
            raise VlawError(f"there is no {holds}", where=printable(path), remedy=remedy)
        return cls(root, _blobs(root))

    def locate(self, relative: str, *, what: str) -> Path:
        """Where the file really is. VlawError unless it is a regular, non-empty file inside, unchanged since it was
        first located; `MissingFileError` where it is missing or empty."""
        path, found = self._find(relative, what)
        known = self._stamps.setdefault(relative, found)
        if known != found:
            raise self._changed(relative, what)
        return path

    def open(self, relative: str, *, what: str) -> BinaryIO:
        """The file, for reading; errors as `locate`."""
        path = self.locate(relative, what=what)
        try:
            # No link is followed and no pipe waited for, whatever took the file's place since it was looked at.
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise VlawError(f"the {what} cannot be opened: {error.strerror}", where=str(path), remedy=BROKEN) from error
        if _stamp(os.fstat(file)) != self._stamps[relative]:
            os.close(file)
            raise self._changed(relative, what)
        return os.fdopen(file, "rb")

    def has(self, relative: str) -> bool:
        """Whether there is anything of this name, sound or not."""
        return os.path.lexists(self.root / relative)

    def sound(self, relatives: Iterable[str]) -> list[Path]:
        """Where those of these files really are that can be located, sorted. What is wrong with another one is
        said when its episode is read."""
        found = []
        for relative in relatives:
            with contextlib.suppress(VlawError):
                found.append(self.locate(relative, what="file"))
        return sorted(found)

    def listed(self, pattern: str) -> list[str]:
        """Relative paths of what matches, sorted."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern))

    def json(self, relative: str, *, what: str) -> Any:
        with self.open(relative, what=what) as file:
            text = file.read(MAX_JSON + 1)
        return _parsed(text, MAX_JSON, what, str(self.root / relative))

    def json_lines(self, relative: str, *, what: str) -> Iterator[dict[str, Any]]:
        """The objects of a file with one on each line; blank lines are skipped."""
        where = str(self.root / relative)
        with self.open(relative, what=what) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
                if not line.strip():
                    continue
                found = _parsed(line, MAX_LINE, what, f"{where}, line {number}")
                if not isinstance(found, dict):
                    raise VlawError(f"{shown(found)} is no record", where=f"{where}, line {number}", remedy=BROKEN)
                yield found

    def _find(self, relative: str, what: str) -> tuple[Path, Stamp]:
        if not isinstance(relative, str) or not _plain(relative):
            raise VlawError(
                f"the path of the {what} is not one inside the dataset: {printable(relative)}",
                where=str(self.root),
                remedy="Do not import this dataset unless you know why it points there.",
            )
        where = os.path.join(self.root, relative)
        folder, name = os.path.split(where)
        try:
            if folder not in self._parents:
                self._parents[folder] = os.path.realpath(folder, strict=True)
            real = os.path.join(self._parents[folder], name)
            found = os.lstat(real)
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(real, strict=True)
                found = os.stat(real, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(f"the {what} is missing", where=where, remedy=BROKEN) from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no name of a file"
            raise VlawError(f"the {what} cannot be found: {reason}", where=printable(where), remedy=BROKEN) from error
        if not self._allowed(real):
            raise VlawError(
                f"the {what} is a link to a file outside the dataset: {real}",
                where=where,
                remedy="Copy the dataset with its links followed (cp -rL), if you trust what they point to.",
            )
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for test, name in KINDS if test(found.st_mode)), "a device")
            raise VlawError(f"the {what} is {kind} and no regular file", where=where, remedy=BROKEN)
        if found.st_size == 0:
            raise MissingFileError(f"the {what} is empty", where=where, remedy=BROKEN)
        return Path(real), _stamp(found)

    def _allowed(self, real: str) -> bool:
        tops = [self.root] if self.blobs is None else [self.root, self.blobs]
        return any(real.startswith(f"{str(top).rstrip(os.sep)}{os.sep}") for top in tops)

    def _changed(self, relative: str, what: str) -> ChangedFileError:
        return ChangedFileError(
            f"the {what} changed while it was being imported",
            where=str(self.root / relative),
            remedy="Import it again when nothing writes to it.",
        )


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _blobs(root: Path) -> Path | None:
    """The blobs of the repository in the hub's cache (datasets--OWNER--NAME/{blobs,snapshots/REVISION}) that `root` is
    a snapshot of, or a folder in one."""
    for snapshot in (root, *root.parents):
        repository = snapshot.parent.parent
        if snapshot.parent.name == "snapshots" and REPOSITORY.fullmatch(repository.name):
            blobs = repository / "blobs"
            return blobs if blobs.is_dir() and not blobs.is_symlink() else None
    return None


def _plain(relative: str) -> bool:
    try:
        os.fsencode(relative)
    except UnicodeEncodeError:
        return False
    parts = relative.split("/")
    return bool(set(parts) - {"", "."}) and "\0" not in relative and parts[0] != "" and ".." not in parts


def _parsed(text: bytes, most: int, what: str, where: str) -> Any:
    if len(text) > most:
        raise VlawError(f"the {what} has more than {most} bytes", where=where, remedy=BROKEN)
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error)[:160] if isinstance(error, ValueError) else "nested too deeply"
        raise VlawError(f"the {what} is not readable JSON: {reason}", where=where, remedy=BROKEN) from error


def shown(value: object) -> str:
    """What a file of a stranger holds, short and on one line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:119]}…"


def printable(path: object) -> str:
    """A path as text that can be printed, whatever is in it."""
    return ascii(str(path))[1:-1][:400] if not str(path).isprintable() else str(path)[:400]


def template(text: Any, fields: Mapping[str, bool], name: str, where: str) -> str:
    """A path template with nothing in it but plain fields: no attribute, index, conversion or computed width.

    Args:
        fields: name of a field -> whether it must be there.
    """

    def wrong(why: str = "") -> VlawError:
        return VlawError(
            f"{name} is {shown(text)}{why}",
            where=where,
            remedy=f"A relative path with the fields {', '.join(sorted(fields))} and nothing else is expected.",
        )

    if not isinstance(text, str) or not _plain(text):
        raise wrong()
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise wrong() from error
    for _, part, spec, conversion in parts:
        if part is None:
            continue
        plain = part in fields and conversion is None
        if not plain or not (spec == "" if part == "video_key" else NUMBER.fullmatch(spec or "")):
            raise wrong()
    missing = sorted(part for part, needed in fields.items() if needed and part not in {found[1] for found in parts})
    if missing:
        raise wrong(f" and has no {{{missing[0]}}}: different files would be one and the same")
    return text
