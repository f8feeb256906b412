"""Checkpoints of the Delta logs: what a log adds up to, in one Parquet file, so that other readers open a long one
quickly.

vlaw reads the JSON log and no checkpoint, so that none can change what it answers (delta-rs, which compacts and deletes
rows for it, does read them: what is compacted or deleted is no more than other readers' view). One is made at every
EVERY-th version of a table by whoever commits that version, after the commit, on a best effort: the commit is made,
whatever happens.

delta-rs makes them, in a folder of its own under `tmp/` that holds the log as links. So nobody sees one that is not
whole and on the disk, and what a killed maker leaves is a temporary folder like any other. `_checkpoints.json` beside
the log keeps each file's size and sha256: `vlaw audit --all --verify` names what changed since, and one that does not
say what the log says, whoever made it (`delta_checks.py`). All of them may be deleted: the log is complete, and
`complete` makes one anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog, replica
from vlaw_assets.lake.durable import FileLock, as_written, digest_of, fsync_path, sha256_file, write_json
from vlaw_assets.lake.paths import Paths

EVERY = 100
"""Versions from one checkpoint to the next: no reader has to read more log entries than that one by one."""
KEPT, LANDMARK = 10, 1000
"""A checkpoint holds the whole table, so all of them would grow with the square of its age: the newest stay, and each
of a thousandth version. (A reader that was sent to one that is gone reads the log.)"""
LOCK_S = 10.0
LAST, RECORD = "_last_checkpoint", "_checkpoints.json"
_NAME = re.compile(r"(\d{20})\.checkpoint\.(?:\d{10}\.\d{10}\.)?parquet")


def after(paths: Paths, name: str, version: int, *, before: int | None = None) -> None:
    """Make the checkpoint that came due with the commits up to `version` (`before`: of the versions after that one).

    Never fails; a checkpoint that is missing costs other readers time only.
    """
    newest = version - version % EVERY
    if replica.of(paths.root) is not None:
        return  # a bucket has none: its readers read the log
    if newest > (version - 1 if before is None else before) and newest > 0:
        with contextlib.suppress(Exception):
            make(paths, name, newest)


def make(paths: Paths, name: str, version: int) -> Path:
    """Write the checkpoint of a version that is in the log, durably; whole or not at all. Returns the file.

    Raises VlawError while another process makes one of this table, or if the log is damaged; DeltaError, OSError.
    """
    from deltalake import DeltaTable

    log = paths.table(name) / "_delta_log"
    scratch = paths.temporary / f"delta-checkpoint--{name}"
    lock = FileLock(paths.locks / f"{scratch.name}.lock")
    with lock.hold("a checkpoint", wait_s=LOCK_S, remedy="wait until it is done"):
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            record = recorded(paths.table(name)) or {}
            fill(scratch / "_delta_log", log, version, base_of(log, version, record))
            DeltaTable(str(scratch)).create_checkpoint()
            target = log / f"{version:020d}.checkpoint.parquet"
            made, last = scratch / "_delta_log" / target.name, scratch / "_delta_log" / LAST
            fsync_path(made)
            fsync_path(last)
            said = {"size": made.stat().st_size, "sha256": sha256_file(made)}
            if record.pop(target.name, said) != said or not (paths.table(name) / RECORD).exists():
                write_record(
                    paths.table(name), record
                )  # a kill must leave no new bytes under an old digest, nor without a record
            made.replace(target)
            fsync_path(log)
            if (pointed_at(log) or 0) <= version or not files_of(log, pointed_at(log)):
                last.replace(log / LAST)
                fsync_path(log)
            keep(paths.table(name), record | {target.name: said})
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def drop(table: Path, bad: Iterable[Path]) -> list[Path]:
    """Delete those of these files that are a checkpoint's, and forget them: the log says all that they did, and
    truly."""
    log = table / "_delta_log"
    gone = sorted(
        path
        for path in bad
        if path in (log / LAST, table / RECORD) or (path.parent == log and ".checkpoint." in path.name)
    )
    if gone:
        write_record(table, {key: said for key, said in (recorded(table) or {}).items() if log / key not in gone})
        if not set(files_of(log, pointed_at(log))) - set(
            gone
        ):  # first: delta-rs opens no table whose last checkpoint is missing
            (log / LAST).unlink(missing_ok=True)
        for path in set(gone) - {table / RECORD}:
            path.unlink(missing_ok=True)
        fsync_path(log)
    return gone


def complete(paths: Paths, name: str) -> int | None:
    """Make the checkpoint of a table's newest version, unless it is there or nothing was committed. Returns the version
    if made."""
    table, log = paths.table(name), paths.table(name) / "_delta_log"
    version = deltalog.newest(table)
    if version == 0 or (pointed_at(log) == version and files_of(log, version)):
        return None
    make(paths, name, version)
    return version


def files(log: Path) -> list[tuple[int, Path]]:
    """(version, file) of each checkpoint in a log folder, oldest first: in one file, or (of other programs) in
    several."""
    found = [
        (int(match[1]), path) for path in log.glob("*.checkpoint*.parquet") if (match := _NAME.fullmatch(path.name))
    ]
    return sorted(found)


def files_of(log: Path, version: int | None) -> list[Path]:
    """The files of the checkpoint of one version."""
    return [path for found, path in files(log) if found == version]


def pointed_at(log: Path) -> int | None:
    """The version that `_last_checkpoint` names; None without one, or where it cannot be read."""
    try:
        return int(json.loads((log / LAST).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def recorded(table: Path) -> dict[str, dict[str, Any]] | None:
    """File name -> {"size", "sha256"} of the checkpoints that vlaw made; empty if it made none, None if the record is
    damaged."""
    try:
        text = (table / RECORD).read_text(encoding="utf-8")
        found = json.loads(text)
        if text != as_written(found) or found.pop("digest") != digest_of(found):
            return None
        return {str(name): {"size": said["size"], "sha256": said["sha256"]} for name, said in found["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_record(table: Path, record: dict[str, Any]) -> None:
    found = {"files": record}
    write_json(table / RECORD, found | {"digest": digest_of(found)})


def keep(table: Path, record: dict[str, Any]) -> None:
    """Write the record of what stays, then delete what does not: of ours only."""
    versions = {name: int(name[:20]) for name in record}
    newest = set(sorted(versions.values())[-KEPT:])
    stays = {name for name, version in versions.items() if version in newest or version % LANDMARK == 0}
    write_record(table, {name: record[name] for name in stays})
    for name in set(record) - stays:
        (table / "_delta_log" / name).unlink(missing_ok=True)


def base_of(log: Path, version: int, record: dict[str, Any]) -> Path | None:
    """The newest earlier checkpoint that is as vlaw made it, for the next one to build on: not one that was tampered
    with."""
    for name in sorted(record, reverse=True):
        path = log / name
        if int(name[:20]) < version and path.is_file() and sha256_file(path) == record[name]["sha256"]:
            return path
    return None


def fill(scratch: Path, log: Path, version: int, base: Path | None) -> None:
    """A log that ends at `version`, made of links: a checkpoint, if there is one, and the entries after it."""
    scratch.mkdir(parents=True)
    if base:
        os.link(base, scratch / base.name)
    for number in range(int(base.name[:20]) + 1 if base else 0, version + 1):
        entry = deltalog.entry_path(log.parent, number)
        try:
            os.link(entry, scratch / entry.name)
        except FileNotFoundError:
            deltalog.read_entry(log.parent, number)  # raises, naming the file
            raise
