"""The lake: Delta tables, Lance frames and content-addressed checkpoints behind one ledger.

    lake = Lake.open(path)
    with lake.commit(asset="policy", partition="vlaw|01", identity=identity, run_id=run) as draft:
        if draft.reused is None:
            episodes = draft.read(ref, role="rollouts").episodes()
            ...write into draft.checkpoint_dir()...
    draft.ref  # the ledger row

A crash at any point leaves the old version or the new one: see `draft.py`. Dagster is not known here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog, disk, frames, labels, moments, quarantine, replica, seal
from vlaw_assets.lake.artifact import ArtifactRef, Edge, Identity
from vlaw_assets.lake.draft import Draft
from vlaw_assets.lake.durable import FileLock, canonical_json, check_writable, digest_of, write_json
from vlaw_assets.lake.handles import Handle
from vlaw_assets.lake.ledger import Ledger
from vlaw_assets.lake.paths import FORMAT_NAME, FORMAT_VERSION, Paths, lake_root
from vlaw_assets.lake.schemas import TABLES
from vlaw_assets.lake.tables import Tables
from vlaw_assets.lake.verified import Verified
from vlaw_assets.local_folder import check_local
from vlaw_models.errors import VlawError

__all__ = ["ArtifactRef", "Draft", "Edge", "Handle", "Identity", "Lake", "Ledger", "canonical_json"]

SWEEP_S = 0.3
"""How long to try for a partition's lock: longer than `sweep` holds it, too short to queue behind a run."""

_OURS = {
    *("FORMAT.json", "ledger.seal", "ledger.chain", "delta", "lance", "checkpoints", "pictures", "sessions"),
    *("inbox", "locks", "tmp", "imports", "training"),
}

_REMEDY = "point VLAW_LAKE at a folder you can write to"


class Lake:
    """One lake: a folder, or objects of which a folder has copies. Use `Lake.open`."""

    def __init__(self, paths: Paths):
        self.paths = paths
        self.tables = Tables(paths)
        self.ledger = Ledger(self.tables, paths.root)
        self.verified = Verified(paths.root)
        """Which files are known to be as they were recorded."""
        self.moment: str | int | None = None
        """The past moment that this lake shows (see `as_of`); None for the lake as it is."""
        self.notes: tuple[str, ...] = ()
        """What whoever named that moment should know, see `moments.Moment`."""
        self._in_force: tuple[Any, frozenset[str], dict[str, bool | None]] | None = None
        """The ledger that `counted` was last asked of, what it leaves out, and the labels it goes by."""

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True) -> Lake:
        """Open a lake; with `create`, make it if there is none, and be sure that it can be written.

        Raises VlawError: not writable, not a lake, made by a newer version, or (create=False) missing.
        """
        check_local(path, bucket=True)
        copy = replica_of(path)
        paths = Paths(copy.root if copy else lake_root(path))
        if copy and not copy.want(paths.format):
            copy.want(deltalog.entry_path(paths.table("artifacts"), 1))
        if not paths.format.is_file() and deltalog.entry_path(paths.table("artifacts"), 1).is_file():
            raise VlawError(
                "the lake's FORMAT.json is missing",
                where=str(paths.format),
                remedy="restore it from a backup, or run `vlaw migrate --reseal`",
            )
        if create:
            _create(paths)
        elif not paths.format.is_file():
            raise VlawError(
                "there is no lake here", where=str(paths.root), remedy="materialize something, or set VLAW_LAKE"
            )
        _check_format(paths)
        return cls(paths)

    def as_of(self, moment: str | int) -> Lake:
        """The lake as it was at a moment (see `moments.find`), for reading only: exactly the rows of that moment,
        whatever was materialized again, quarantined, compacted or collected since. Raises VlawError for no moment."""
        past = Lake(self.paths)
        found = moments.find(self.ledger, moment)
        past.ledger = self.ledger.until(found.sequence)
        past.moment, past.notes, past.verified = moment, found.notes, self.verified
        return past

    def still(self) -> Lake:
        """The lake as it is now, for reading only: one moment for many questions, whatever is committed meanwhile."""
        count = len(self.ledger.artifacts()) if self.moment is None else 0
        return self.as_of(count - 1) if count else self

    def read(self, ref: ArtifactRef) -> Handle:
        """A handle outside a commit, for looking only: all that the artifact holds, and no edge is recorded."""
        return Handle(self, ref)

    def counted(self, ref: ArtifactRef) -> Handle:
        """As `read`, without the episodes in quarantine and by the labels in force: for every number and picture that
        people are shown.

        `Handle.left_out` and `Handle.corrected` say how many those are.
        """
        ledger = self.ledger
        now = ledger.current(quarantine.ASSET), ledger.current(labels.ASSET), len(ledger.artifacts())
        if self._in_force is None or self._in_force[0] != now:
            self._in_force = now, frozenset(quarantine.in_force(self)), labels.outcomes(self)
        return Handle(self, ref, excluded=self._in_force[1], labels=self._in_force[2])

    @contextmanager
    def commit(
        self,
        *,
        asset: str,
        partition: str = "",
        identity: Identity,
        run_id: str,
        force: bool = False,
        code_revision: str = "",
    ) -> Iterator[Draft]:
        """Materialize one asset partition; see `Draft`. Committed when the block ends without an exception.

        Raises VlawError at once if another run is materializing the same partition, or if the lake is read-only.
        """
        if self.moment is not None:
            raise VlawError(
                f"the lake as of {self.moment} is for reading only",
                where=str(self.paths.root),
                remedy="leave --as-of out: what is made now is made from what is there now",
            )
        lock = FileLock(self.paths.lock(asset, partition))
        check_writable(self.paths.root, remedy=_REMEDY)
        seal.check(self.paths)
        if not lock.acquire(holder=run_id, wait_s=SWEEP_S):
            holder = lock.holder()
            name = f"{asset}[{partition}]" if partition else asset
            raise VlawError(
                f"{name} is already being materialized by run {holder.get('run_id', '?')}, "
                f"pid {holder.get('pid', '?')} on {holder.get('host', '?')}",
                where=str(lock.path),
                remedy="wait for that run to end, or stop it",
            )
        try:
            shutil.rmtree(self.paths.drafts(asset, partition), ignore_errors=True)  # of killed runs: the lock is ours
            draft = Draft(
                self,
                asset=asset,
                partition=partition,
                identity=identity,
                run_id=run_id,
                code_revision=code_revision,
                force=force,
            )
            try:
                yield draft
                with self.tables.checkpoints_last():
                    lock.confirm()
                    draft.finish()
            finally:
                draft.discard()
        finally:
            lock.release()

    def sweep(self) -> list[Path]:
        """Remove temporary folders whose run is gone. Returns what was removed. Drafts at work are left alone."""
        removed = []
        for folder in sorted(self.paths.temporary.iterdir()):
            lock = FileLock(self.paths.locks / f"{folder.name}.lock", shared=False)  # the folder is of this host
            if lock.acquire(holder="sweep"):
                try:
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    lock.release()
                removed.append(folder)
        return removed


def replica_of(path: str | Path) -> replica.Replica | None:
    """The replica of a lake in a bucket, by its address or by the folder of its copies; None for another folder."""
    return replica.opened(path, lambda address: lake_root(replica.folder_of(address)))


def _create(paths: Paths) -> None:
    """Make what is missing of a lake, one process at a time; FORMAT.json comes last and says that all is there."""
    root = paths.root
    fresh = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        strangers = sorted(entry.name for entry in root.iterdir() if entry.name not in _OURS and entry.name[0] != ".")
    except OSError as error:
        raise VlawError(f"the lake cannot be opened: {error.strerror}", where=str(root), remedy=_REMEDY) from error
    if paths.format.exists():
        check_writable(root, remedy=_REMEDY)
        return
    copy = replica.of(root)
    if copy:
        strangers = sorted({item.name.partition("/")[0] for item in copy.bucket.names(most=1000)} - _OURS)
    if strangers:
        raise VlawError(
            f"this folder is not a lake and not empty (it holds {strangers[0]!r})",
            where=str(root),
            remedy="use a new folder",
        )
    check_writable(root, remedy=_REMEDY)
    if copy:
        copy.bucket.try_conditions()
    try:
        disk.try_folder(root)
    except VlawError:
        if fresh:
            with suppress(OSError):  # somebody else may have put something there
                root.rmdir()
        raise
    lock = FileLock(paths.locks / "lake.lock")
    if not lock.acquire(holder="create", wait_s=60):
        raise VlawError("another process has been creating this lake for a minute", where=str(root), remedy="stop it")
    try:
        if copy:
            copy.want(paths.format)
            for name in TABLES:
                copy.pull_log(paths.table(name), now=True)
        if not paths.format.exists():
            for folder in (paths.checkpoints, paths.temporary):
                folder.mkdir(exist_ok=True)
            Tables(paths).create()
            frames.create(paths)
            seal.start(paths)
            write_format(paths)
    finally:
        lock.release()


def write_format(paths: Paths, created_at: str | None = None, *, migrated: bool = False) -> None:
    """Write FORMAT.json, durably: from then on the folder is a lake of this version.

    It pins the log as it is now: of a new lake the creation of each table, of a migrated one also all that came before
    ledger rows pinned their own log entries. `migrated`: files of its tables may lack columns of today.
    """
    logs = [
        entry
        for name in TABLES
        if name != "artifacts"
        for entry in (paths.table(name) / "_delta_log").glob(deltalog.ENTRIES)
    ]
    made = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "created_at": created_at or datetime.now(UTC).isoformat(),
        "logs": [seal.describe(paths, path) for path in sorted([*logs, *frames.pinned(paths)])],
        **({"migrated": True} if migrated else {}),
    }
    write_json(paths.format, made | {"digest": digest_of(made)})
    if copy := replica.of(paths.root):
        copy.create(paths.format)


def _check_format(paths: Paths) -> None:
    found = read_format(paths)
    version = int(found["version"])
    if version > FORMAT_VERSION:
        raise VlawError(
            f"this lake has format {version}, this program knows up to {FORMAT_VERSION}",
            where=str(paths.root),
            remedy="update vlaw",
        )
    if version < FORMAT_VERSION:
        raise VlawError(
            f"this lake has format {version}, this program works with {FORMAT_VERSION}",
            where=str(paths.root),
            remedy="make a copy, then run `vlaw migrate`; or use the version of vlaw that made it",
        )


def read_format(paths: Paths) -> dict[str, Any]:
    """What FORMAT.json says. Raises VlawError if it cannot be read or the folder is something else."""
    try:
        found = json.loads(paths.format.read_text(encoding="utf-8"))
        name, _ = found["format"], int(found["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VlawError(
            "FORMAT.json cannot be read", where=str(paths.format), remedy="restore the file, or use another folder"
        ) from error
    if name != FORMAT_NAME:
        raise VlawError(f"this is a {name!r} folder, not a lake", where=str(paths.root), remedy="use another folder")
    return found
