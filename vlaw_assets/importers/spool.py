"""What an import has read so far, beside the lake's data: whole batches of encoded episodes. A killed import goes on
behind the last one.

    imports/<identity>/batch-00000000.arrow     encoded episodes, one record batch each (lake/encoded.py)
    imports/<identity>/batch-00000000.json      what the batch holds; it comes last: a batch without it is none

A batch is named by the position, in the list of episodes that are imported, of the first it tells of.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.importers.findings import Finding
from vlaw_assets.lake import disk
from vlaw_assets.lake.decisions import withheld
from vlaw_assets.lake.durable import FileLock, fsync_path, replace_file
from vlaw_assets.lake.encoded import ENCODED
from vlaw_assets.lake.paths import Paths
from vlaw_models.errors import VlawError

MOST_BYTES, MOST_EPISODES, MOST_SECONDS = 64 << 20, 1000, 20.0
"""When a batch is closed: a kill costs at most one."""
ORPHAN_S = 30.0
"""How long to wait for the process of an import that was killed: it ends once it finds out."""
REMEDY = "See that the disk works, then run it again: it goes on where it was."


@dataclass(frozen=True)
class Batch:
    """What is known of one whole batch without reading its episodes."""

    begin: int
    end: int
    """Positions of its first episode, and behind its last."""
    episodes: int
    """How many were kept."""
    judged: int
    """How many of them count: they have a label, and are not for world models alone."""
    successes: int
    """Of those that count."""
    unlabelled: int
    frames: int
    """Pictures of each camera, of all of them."""
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Batch:
        return cls(**{**found, "findings": tuple(Finding(**finding) for finding in found["findings"])})


class Spool:
    """The batches of one import. Use `held`."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    @contextmanager
    def held(cls, paths: Paths, identity: str, holder: str) -> Iterator[Spool]:
        """The spool of an identity, for one import at a time. What is whole stays after an error, and an empty folder
        goes. VlawError where another import of the same is at work."""
        lock = FileLock(paths.locks / f"{identity}.lock")
        if not lock.acquire(holder=holder):
            other = lock.holder()
            raise VlawError(
                f"the same import is at work: {other.get('run_id', '?')}, pid {other.get('pid', '?')} on "
                f"{other.get('host', '?')}",
                where=str(lock.path),
                remedy="Wait until it is done, or stop it.",
            )
        spool = cls(paths.imports / identity)
        try:
            try:
                spool.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _failure(error, paths.imports) from error
            yield spool
        finally:
            if not list(spool.folder.glob("*.json")):
                spool.remove()
            lock.remove()

    def whole(self) -> list[Batch]:
        """The batches from the first position on without a gap; files of others are deleted."""
        found: list[Batch] = []
        kept: set[Path] = set()
        while (described := self._path(found[-1].end if found else 0).with_suffix(".json")).is_file():
            try:
                batch = Batch.of(json.loads(described.read_text(encoding="utf-8")))
            except (ValueError, TypeError, KeyError):
                break
            rows = described.with_suffix(".arrow")
            if batch.end <= batch.begin or (batch.episodes and not rows.is_file()):
                break
            found.append(batch)
            kept |= {described, rows}
        for path in sorted(self.folder.iterdir(), key=lambda path: path.suffix != ".json"):
            if path not in kept and path.suffix in (".json", ".arrow", ".tmp"):
                path.unlink()
        return found

    def tables(self, batches: Sequence[Batch]) -> Iterator[pa.Table]:
        """The encoded episodes of some batches, MOST_BYTES at a time or one."""
        for batch in batches:
            if not batch.episodes:
                continue
            with pa.OSFile(str(self._path(batch.begin))) as file:
                reader = pa.ipc.open_file(file)
                if reader.num_record_batches != batch.episodes:
                    raise VlawError(
                        f"a batch holds {reader.num_record_batches} episodes instead of {batch.episodes}",
                        where=str(self._path(batch.begin)),
                        remedy=f"Delete {self.folder}, and run it again.",
                    )
                waiting: list[pa.RecordBatch] = []
                size = 0
                for number in range(reader.num_record_batches):
                    waiting.append(reader.get_batch(number))
                    size += waiting[-1].nbytes
                    if size >= MOST_BYTES:
                        yield pa.Table.from_batches(waiting)
                        waiting, size = [], 0
                if waiting:
                    yield pa.Table.from_batches(waiting)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def _path(self, begin: int) -> Path:
        return self.folder / f"batch-{begin:08d}.arrow"


class BatchWriter:
    """Writes the batches of a spool, one episode after the other. One writer at a time: it holds a lock."""

    def __init__(self, folder: Path, begin: int):
        self.folder, self.begin, self.end = folder, begin, begin
        self._writer: Any = None
        self._temporary = folder
        self._lock = FileLock(folder / "writer.lock")
        if not self._lock.acquire(holder="an import", wait_s=ORPHAN_S):
            raise VlawError(
                "the process of an import that was killed still writes",
                where=str(folder),
                remedy=f"Stop process {self._lock.holder().get('pid', '?')}, then run it again.",
            )
        # What that process has still made: its batches end elsewhere. First what says that they are whole.
        for path in sorted(folder.glob("batch-*"), key=lambda path: path.suffix != ".json"):
            if int(path.stem.removeprefix("batch-")) >= begin:
                path.unlink()
        self._clear()

    def add(self, encoded: pa.Table | None, findings: Sequence[Finding]) -> bool:
        """The next episode, None for one that is left out. True where that closed a batch. VlawError where the disk
        does not take it."""
        try:
            self._add(encoded, findings)
            full = self._bytes >= MOST_BYTES or self.end - self.begin >= MOST_EPISODES
            if full or time.monotonic() - self._began >= MOST_SECONDS:
                self._close()
                return True
        except OSError as error:
            raise _failure(error, self.folder) from error
        return False

    def _add(self, encoded: pa.Table | None, findings: Sequence[Finding]) -> None:
        self.end += 1
        self._findings += findings
        if encoded is not None:
            if self._writer is None:
                self._writer = pa.ipc.new_file(str(self._temporary), ENCODED)
            self._writer.write_table(encoded.combine_chunks())
            (success,), (counts,) = encoded["success"].to_pylist(), withheld(encoded).to_pylist()
            self._bytes += encoded.nbytes
            self._counts["episodes"] += 1
            self._counts["judged"] += counts is not None
            self._counts["successes"] += counts is True
            self._counts["unlabelled"] += success is None
            self._counts["frames"] += encoded["num_frames"][0].as_py()

    def finish(self) -> None:
        """Closes the last batch. VlawError where the disk does not take it."""
        try:
            self._close()
        except OSError as error:
            raise _failure(error, self.folder) from error

    def _close(self) -> None:
        """Makes a batch of what was added since the last one, durably."""
        if self.end == self.begin:
            return
        path = self.folder / f"batch-{self.begin:08d}.arrow"
        if self._writer is not None:
            self._writer.close()
            fsync_path(self._temporary)
            os.replace(self._temporary, path)
            fsync_path(self.folder)
        batch = Batch(self.begin, self.end, findings=tuple(self._findings), **self._counts)
        replace_file(path.with_suffix(".json"), json.dumps(asdict(batch)))
        self.begin = self.end
        self._clear()

    def _clear(self) -> None:
        self._findings: list[Finding] = []
        self._counts = dict.fromkeys(("episodes", "judged", "successes", "unlabelled", "frames"), 0)
        self._bytes, self._began = 0, time.monotonic()
        self._writer = None
        self._temporary = self.folder / f".batch-{self.begin:08d}.tmp"


def _failure(error: OSError, where: Path) -> VlawError:
    return disk.failure(error, "what was read cannot be kept", where=str(where), remedy=REMEDY)
