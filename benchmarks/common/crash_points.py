"""Where `crashes.py` kills: numbered calls that write, seen from Python, and system calls, seen by strace.

They are counted in a process that runs, which is killed at one of them.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYSCALLS = (
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "mkdir",
    "ftruncate",
    "pwrite64",
    "write",
    "openat",
)
"""Where `strace` kills: on entering the call, before the kernel does it."""


class Boundaries:
    """Counts what a commit does to the disk, in this process; at the call numbered `stop`, SIGKILL."""

    def __init__(self, root: Path, stop: int, note: Path | None = None):
        self.root, self.stop, self.seen, self.note = f"{root.resolve()}/", stop, [], note

    def reach(self, label: str) -> None:
        self.seen.append(label)
        if len(self.seen) - 1 == self.stop:
            if self.note is not None:
                self.note.write_text(label)  # what lies there after an earlier kill makes some calls unnecessary
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    def install(self) -> None:
        import lance
        import lance.fragment
        import sqlalchemy

        from vlaw_assets import lake
        from vlaw_assets.lake import checkpoints, deltalog, draft, embeddings, frames, seal, tables

        self.wrap(draft.Draft, "finish", lambda *_: "commit begins")
        self.wrap(draft.Draft, "_commit_row", lambda *_: "ledger row and seal")
        self.wrap(frames.FrameWriter, "write", lambda *_: "frames written")
        self.wrap(frames.FrameWriter, "commit", lambda *_: "frames commit")
        self.wrap(embeddings, "write", lambda *_: "embeddings")
        self.wrap(checkpoints, "store", lambda *_: "checkpoint store")
        self.wrap(
            tables.Tables, "write", lambda _self, name, *_: "ledger commit" if name == "artifacts" else f"table {name}"
        )
        self.wrap(tables, "_write_file", lambda _table, name, *_: f"Parquet file {name}")
        self.wrap(deltalog, "append", lambda table, *_: f"log entry {table.name}")
        self.wrap(lance.LanceDataset, "commit", lambda *_: "Lance commit")
        self.wrap(lance.fragment, "write_fragments", lambda *_: "Lance write_fragments")
        self.wrap(seal, "extend", lambda *_: "seal")
        self.wrap(lake.FileLock, "release", lambda held: "lock released" if "--" in held.path.name else None)
        for moment in ("before", "after"):
            sqlalchemy.event.listen(
                sqlalchemy.Engine,
                f"{moment}_cursor_execute",
                lambda *said, moment=moment: self.reach_statement(moment, *said[2:4]),
            )
        for name in ("fsync", "link", "rename", "replace"):
            self.wrap(os, name, lambda what, *_, name=name: self.place_of(what, name))

    def wrap(self, holder: Any, name: str, label: Callable[..., str | None]) -> None:
        original = getattr(holder, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            text = label(*args)
            if text:
                self.reach(f"before {text}")
            value = original(*args, **kwargs)
            if text:
                self.reach(f"after {text}")
            return value

        setattr(holder, name, wrapped)

    def reach_statement(self, moment: str, statement: str, parameters: object) -> None:
        """What Dagster writes into its event log about a materialization."""
        if statement.startswith("INSERT INTO event_logs") and "ASSET_MATERIALIZATION" in repr(parameters):
            self.reach(f"{moment} Dagster event")
        if statement.startswith("INSERT INTO asset_event_tags"):
            self.reach(f"{moment} Dagster event's tags")

    def place_of(self, what: int | str | os.PathLike, call: str) -> str | None:
        """'fsync delta/episodes/_delta_log' for a file or folder of this lake; None for anything else."""
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
            return f"{call} {kind_of(path[len(self.root) :])}" if path.startswith(self.root) else None
        return None


def kind_of(path: str) -> str:
    """'delta/episodes/_delta_log' of a path in the place: what it is, without names that differ from run to run."""
    parts = [part for part in path.removeprefix("lake/").split("/") if part]
    if parts[:1] == ["delta"]:
        return "/".join(
            [*parts[:2], *(["_delta_log"] if "_delta_log" in parts else ["data"] if len(parts) > 2 else [])]
        )
    if parts[:1] == ["lance"]:
        return "/".join(parts[:3])
    if parts[:1] == ["dagster_home"]:
        return "Dagster's SQLite"
    return re.sub(r"\.\d+(\.tmp)?$", "", parts[0]) if parts else "lake"


def attach(pid: int, spec: str, log: Path) -> subprocess.Popen | None:
    """strace on a waiting child, once it traces it; None where it may not."""
    process = subprocess.Popen(
        ["strace", "-f", "-y", "-p", str(pid), "-o", str(log), *spec.split()], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        if not re.search(r"^TracerPid:\s+0$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE):
            time.sleep(0.05)
            return process
        time.sleep(0.01)
    process.kill()
    process.wait()
    return None


def last_call(log: Path, place: Path, syscall: str) -> str:
    """'link delta/episodes/_delta_log' of the call that the kill was injected into: the last one that strace saw."""
    lines = (
        [line for line in log.read_text(errors="replace").splitlines() if f"{syscall}(" in line] if log.exists() else []
    )
    inside = re.findall(rf"{re.escape(str(place))}/([^\"<>, ]+)", lines[-1]) if lines else []
    return f"{syscall} {kind_of(inside[-1])}" if inside else f"{syscall} elsewhere"


def most_calls(trace: Path) -> dict[str, int]:
    """For each system call, how often the thread that makes most of them made it (strace counts them per thread)."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for line in trace.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match:
            counts[match[1], match[2]] += 1
    most: dict[str, int] = {}
    for (_, name), count in counts.items():
        most[name] = max(most.get(name, 0), count)
    return most
