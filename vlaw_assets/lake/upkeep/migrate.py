"""Bringing a lake of an older format to this one, in place; and accepting a ledger whose seal is broken or whose log is
not whole.

Format 2 lacked the columns of `schemas.NEW`; its seal and its log stay what they are. Format 1 had no seal, no
contents, no scope and selection of reads, and no tables `reads` and `quarantine`. Its rows stay as they are and read as
"the whole of all that was read"; columns and tables are added, the log so far is pinned in FORMAT.json, the ledger is
sealed. FORMAT.json comes last: a crash before it leaves a lake of the old format, whose migration starts over and finds
some of its work done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlaw_assets.lake import deltalog, read_format, replica, seal, write_format
from vlaw_assets.lake.durable import FileLock, check_writable, fsync_files
from vlaw_assets.lake.ledger import Ledger
from vlaw_assets.lake.paths import FORMAT_VERSION, Paths, lake_root
from vlaw_assets.lake.schemas import ADDED, NEW, TABLES
from vlaw_assets.lake.tables import Tables
from vlaw_models.errors import VlawError

LOCK_S = 60.0


def migrate(root: Path) -> int:
    """Bring the lake at `root` to the current format. Returns the format it had; the current one if nothing was to do.

    Raises VlawError: no lake, made by a newer version, damaged, in use, or not writable.
    """
    paths = Paths(lake_root(root))
    _refuse_bucket(paths)
    found = _format(paths)
    with _alone(paths):
        if found < FORMAT_VERSION:
            tables = Tables(paths)
            if found > 1:
                seal.check(paths)
            Ledger(tables, paths.root, sealed=found > 1).artifacts()  # damaged rows are an error now, not afterwards
            tables.create()
            for name, added in NEW.items():
                _add_columns(paths, name, list(added))
            if found == 1:
                for name, columns in ADDED.items():
                    _add_columns(paths, name, list(columns))
                seal.start(paths)
            write_format(paths, created_at=read_format(paths).get("created_at"), migrated=True)
    return found


def _refuse_bucket(paths: Paths) -> None:
    if copy := replica.of(paths.root):
        raise VlawError(
            "a lake on an object store is neither migrated nor sealed anew in place",
            where=copy.bucket.address,
            remedy="copy its objects into a folder while nothing runs, do it there, and copy them to a new prefix",
        )


@dataclass(frozen=True)
class Resealed:
    """What accepting a ledger as it is came to."""

    restored: tuple[int, ...]
    """Versions whose log entry was lost and written again from their data files, whose sha256 the chain has."""
    lost: tuple[int, ...]
    """Versions whose rows are gone: an entry without rows keeps their numbers, so that no other commit gets them."""


def reseal(root: Path) -> Resealed:
    """Seal the ledger as it is now, whatever the seal said. For whoever knows why the bytes changed.

    Raises VlawError where rows of the ledger cannot be read: there is nothing sound to seal.
    """
    paths = Paths(lake_root(root))
    _refuse_bucket(paths)
    with _alone(paths):
        if paths.format.is_file() and _format(paths) < FORMAT_VERSION:
            raise VlawError(
                "this lake has an older format and no seal", where=str(paths.root), remedy="run `vlaw migrate`"
            )
        deltalog.read_entry(paths.table("artifacts"), 0)
        done = _fill_log(paths)
        Ledger(Tables(paths), paths.root, sealed=False).artifacts()
        _restore_files(paths)
        seal.start(paths)
        created = read_format(paths).get("created_at") if paths.format.is_file() else None
        write_format(paths, created_at=created, migrated=True)  # as it may be: what FORMAT.json said may be lost
    return done


def _fill_log(paths: Paths) -> Resealed:
    """An entry for every version that the log of `artifacts` had and has lost."""
    table = paths.table("artifacts")
    links, there = seal.links(paths), set(deltalog.versions(table))
    restored: list[int] = []
    lost: list[int] = []
    for version in range(max([*there, *links]) + 1):
        if version in there:
            continue
        files = links.get(version, {}).get("files", [])
        found = Tables(paths).restorable("artifacts", files)
        adds, metadata = found or ([], {"vlaw.lost": str(version)})
        deltalog.put(table, version, adds, metadata=metadata)
        (restored if found else lost).append(version)
    return Resealed(tuple(restored), tuple(lost))


def _restore_files(paths: Paths) -> None:
    """Write data files of `artifacts` again that are gone and whose rows the log carries."""
    tables = Tables(paths)
    for entry in deltalog.entries(paths.table("artifacts")):
        for path in entry.added:
            if not path.exists():
                tables.restore_file("artifacts", entry, path)


def _format(paths: Paths) -> int:
    if not paths.format.is_file():
        raise VlawError("there is no lake here", where=str(paths.root), remedy="set VLAW_LAKE to the lake's folder")
    version = int(read_format(paths)["version"])
    if version > FORMAT_VERSION:
        raise VlawError(
            f"this lake has format {version}, this program knows up to {FORMAT_VERSION}",
            where=str(paths.root),
            remedy="update vlaw",
        )
    return version


class _alone:  # noqa: N801 (a context manager used like a function)
    """Nobody materializes anything meanwhile; runs of the old version know no common lock, but their partitions'
    locks."""

    def __init__(self, paths: Paths):
        self._paths, self._lock = paths, FileLock(paths.locks / "lake.lock")

    def __enter__(self) -> None:
        check_writable(self._paths.root, remedy="see that you may write there, and that the disk has space")
        if not self._lock.acquire(holder="vlaw migrate", wait_s=LOCK_S):
            raise VlawError(
                "another process is making or migrating this lake", where=str(self._lock.path), remedy="wait for it"
            )
        for path in sorted(self._paths.locks.glob("*--*.lock")):
            if FileLock(path).held_since() is not None:
                holder = FileLock(path).holder()
                self._lock.release()
                raise VlawError(
                    f"run {holder.get('run_id', '?')} (pid {holder.get('pid', '?')}) is at work in this lake",
                    where=str(path),
                    remedy="wait for it to end, or stop it",
                )

    def __exit__(self, *_exception: object) -> None:
        self._lock.release()


def _add_columns(paths: Paths, name: str, columns: list[str]) -> None:
    from deltalake import DeltaTable, Field, PostCommitHookProperties
    from deltalake.schema import PrimitiveType

    kinds = {column: str(TABLES[name].field(column).type) for column in columns}
    table = paths.table(name)
    opened = DeltaTable(str(table))
    there = {field.name for field in opened.schema().fields}
    missing = [
        Field(column, PrimitiveType(kind), nullable=True) for column, kind in kinds.items() if column not in there
    ]
    if missing:
        opened.alter.add_columns(
            missing,
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
        fsync_files([deltalog.entry_path(table, deltalog.newest(table))], root=paths.root)
