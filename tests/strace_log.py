"""What a process did to a folder, as strace saw it: which bytes and folder entries had not reached the disk, and when.

The trace is of a process and its threads (`strace -f -y`), one line per call, an unfinished one put together with its
end. A file is dirty from its first write until it is flushed; a folder entry (a name that was created, linked or
renamed) until its folder is. Whoever renames a file takes its dirt along.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import needed

CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,copy_file_range,sendfile,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat"
)
WRITES = {"write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "sendfile"}

_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(.*)")
_OPENED = re.compile(r"<([^>]*)>")
_QUOTED = re.compile(r'(?:AT_FDCWD(?:<([^>]*)>)?|\d+<([^>]*)>)?(?:, )?"((?:[^"\\]|\\.)*)"')


def tracing(trace: Path) -> list[str]:
    """What to put before a command so that its calls are written to `trace`; see `needed` for where it cannot be."""
    needed.worked("strace", "-f", "-o", os.devnull, "true")
    return ["strace", "-f", "-y", "-s", "1", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace)]


@dataclass(frozen=True)
class Call:
    """One system call that succeeded."""

    name: str
    paths: tuple[str, ...]
    """Absolute; of the descriptor for write and fsync."""
    flags: str


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        thread, text = match.groups()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
        if resumed:
            text = begun.pop(thread, "") + resumed[1]
        match = _CALL.match(text)
        if not match or int(match[3]) < 0:
            continue
        name, arguments = match[1], match[2]
        if name in WRITES or name in ("fsync", "fdatasync"):
            opened = _OPENED.search(arguments)
            yield Call(name, (opened[1],) if opened else (), "")
        elif name == "copy_file_range":
            opened = _OPENED.findall(arguments)
            yield Call(name, (opened[-1],) if opened else (), "")
        else:
            named = [str(Path(one or other or "/", path)) for one, other, path in _QUOTED.findall(arguments)]
            yield Call(name, tuple(named), arguments)


@dataclass
class Disk:
    """The part of a folder that would not survive a power cut."""

    root: str
    known: set[str]
    """Files and folders that were there, and on the disk, at the beginning."""
    data: set[str] = field(default_factory=set)
    """Files with bytes that were not flushed."""
    entries: set[str] = field(default_factory=set)
    """Paths whose entry in their folder was not flushed."""
    touched: set[str] = field(default_factory=set)
    """Every path that was ever written, linked or renamed to."""

    def do(self, call: Call) -> None:
        paths = [path for path in call.paths if f"{path}/".startswith(f"{self.root}/")]
        if not paths:
            return
        if call.name in WRITES or call.name == "copy_file_range":
            self._write(paths[0])
        elif call.name in ("fsync", "fdatasync"):
            self.data.discard(paths[0])
            self.entries -= {path for path in self.entries if str(Path(path).parent) == paths[0]}
        elif call.name in ("open", "openat", "creat"):
            if "O_CREAT" in call.flags or call.name == "creat":
                if "O_TRUNC" in call.flags and paths[0] in self.known:
                    self._write(paths[0])
                self._enter(paths[0])
        elif call.name.startswith("mkdir"):
            self._enter(paths[0])
        elif call.name.startswith("unlink"):
            self._leave(paths[0])
        elif call.name.startswith("link"):
            old, new = paths[0], paths[-1]
            if old in self.data:
                self.data.add(new)
            self._enter(new)
        elif call.name.startswith("rename"):
            self._move(paths[0], paths[-1])

    def _write(self, path: str) -> None:
        self.data.add(path)
        self.touched.add(path)

    def _enter(self, path: str) -> None:
        if path not in self.known:
            self.known.add(path)
            self.entries.add(path)
        self.touched.add(path)

    def _leave(self, path: str) -> None:
        """What is gone need not reach the disk."""
        for paths in (self.data, self.entries, self.known):
            paths.discard(path)

    def _move(self, old: str, new: str) -> None:
        for paths in (self.data, self.entries, self.known):
            below = {path for path in paths if path == old or path.startswith(f"{old}/")}
            paths.difference_update(below)
            paths.update(new + path[len(old) :] for path in below)
        self.known.add(new)
        self.entries.add(new)
        self.touched.add(new)
